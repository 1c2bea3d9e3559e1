"""Word lists for reading captions without a language model: English closed classes, and the adjectives of
images.

Used by the rules in `nouns`; lower case, one list a class.
"""

DETERMINERS = frozenset(
    """a an the this that these those some any each every no another both all several many few various my your
    his her its our their one two three four five six seven eight nine ten eleven twelve dozen lots""".split()
)
PREPOSITIONS = frozenset(
    """of in on at by with without under over above below beneath beside besides behind between among amongst
    amid near next to from into onto across around through inside outside along against toward towards during
    before after atop underneath like as upon off up down out about past beyond within via per for until since
    than opposite""".split()
)
CONJUNCTIONS = frozenset(
    "and or but nor while whereas because when where which who whom whose so yet if though although".split()
)
PRONOUNS = frozenset(
    """i you he she it we they me him us them itself himself herself themselves something someone somebody
    everything there here it's he's she's there's that's what""".split()
)
COPULAS = frozenset(
    """is are was were be been being am isn't aren't wasn't weren't seems seem looks appears appear becomes
    become turns stays remains has have had do does did can could will would shall should may might
    must""".split()
)
VERBS = frozenset(
    """sit sits sat stand stands stood lie lies lay lays run runs ran walk walks jump jumps fly flies flew
    swim swims swam eat eats ate drink drinks drank sleep sleeps slept play plays wear wears wore hold holds
    held look looks watch watches ride rides rode drive drives drove float floats sail sails rest rests hang
    hangs hung lean leans climb climbs chase chases carry carries cover covers surround surrounds face faces
    fill fills show shows shown seen see sees make makes made take takes taken took lit stare stares smile
    smiles dance dances sing sings grow grows grew shine shines shone bloom blooms wait waits work works read
    reads cut cuts pull pulls push pushes throw throws threw catch catches caught hide hides hid bark barks
    meow meows graze grazes perch perches crawl crawls stretch stretches drift drifts glow glows fall falls
    fell rise rises rose drawn written eaten driven ridden thrown hovers hover crosses cross comes come
    goes go gets get""".split()
)
ADVERBS = frozenset(
    """very really quite rather too also just almost not never always often still outdoors indoors together
    alone away now then again apart everywhere nearby overhead upstairs downstairs sideways forward forwards
    backwards well more most less least only even back""".split()
)
LY_BUT_NO_ADVERB = frozenset(
    """butterfly dragonfly firefly housefly family jelly belly lily holly assembly monopoly bully ally italy
    july anomaly friendly lovely ugly curly woolly wooly silly lonely hilly early jolly elderly smelly bubbly
    chilly wobbly cuddly deadly costly ghostly heavenly lively orderly prickly sparkly fly gully trolly barfly
    mayfly potbelly""".split()
)
ED_ING_NOUNS = frozenset(
    """building painting drawing ceiling morning evening wedding railing earring clothing lightning pudding
    wing ring king string spring swing sling object sing herring starling duckling dumpling awning viking
    sibling sapling darling seedling bring gosling yearling stocking flooring lining siding moped sacred weed
    seed shed sled breed naked hundred watershed flatbed seabed riverbed hotbed being crossing engraving
    etching carving landing opening parking wiring bedding setting icing dressing topping frosting""".split()
)
ADJECTIVE_ENDINGS = ("ful", "ous", "less", "ish", "like", "esque")
ADJECTIVES = frozenset(
    """red green blue yellow purple pink brown black white gray grey cyan magenta beige tan teal crimson
    scarlet maroon navy azure turquoise golden silvery colorful colourful dark light bright pale deep vivid
    pastel neon monochrome transparent translucent wooden woolen woollen metallic leathery stony glassy rusty
    earthen ceramic plastic woven knitted silken waxen striped dotted spotted checkered chequered plain
    patterned polka plaid speckled floral furry fluffy fuzzy hairy shaggy scaly big small large little tiny
    huge giant gigantic enormous massive miniature tall short long wide narrow thick thin fat slim slender
    broad round square oval flat curved straight sharp pointed pointy triangular rectangular circular old new
    young ancient modern antique vintage rustic retro futuristic medieval happy sad angry cute adorable funny
    scary spooky beautiful pretty ugly handsome lovely elegant cozy cosy majestic magical mysterious friendly
    silly lonely lively sleepy hungry tired lazy wild tame brave proud gentle fierce playful hot cold warm
    cool wet dry icy snowy sandy rocky muddy dusty dirty clean foggy misty cloudy sunny rainy stormy windy
    grassy mossy leafy hilly frosty frozen smoky starry moonlit sunlit bushy curly woolly wavy soft hard
    smooth rough shiny glossy matte dull sleek slippery sticky bumpy crispy fresh ripe rotten raw juicy sweet
    sour delicious tasty empty full open closed broken torn worn heavy single double other same different
    whole half left right upper lower front main top public natural artificial real realistic fake abstract
    simple complex fancy expensive cheap quiet loud busy calm peaceful serene dramatic epic surreal cinematic
    rich poor good great nice bad best perfect typical famous popular strange weird unusual rare common early
    late tropical arctic urban rural domestic marine oriental asian african european american french japanese
    chinese italian indian english digital electric nuclear solar red-haired female male blonde blond
    bald""".split()
)
ALSO_NOUNS = frozenset(
    """orange gold silver bronze copper violet lavender rose peach lime olive ivory indigo khaki salmon coral
    mint cream chocolate glass wood stone metal steel iron brass leather paper cardboard brick marble concrete
    clay porcelain crystal diamond jade amber velvet silk cotton wool denim lace fur rubber straw bamboo
    granite ice snow sand velour linen tin cloth fabric rainbow camouflage""".split()
)
NOT_OBJECTS_BEFORE_OF = frozenset(
    """photo photos photograph image images image images painting drawing sketch illustration portrait
    render rendering close-up closeup shot view snapshot depiction rendition watercolor watercolour print
    poster group bunch pair couple lot lots kind sort type piece number variety front top middle center centre
    side edge bottom corner back part""".split()
)
PLACES = frozenset("front top side sides middle center centre back left right bottom edge close next".split())
