/** The study's page: one question at a time, every choice saved before the next one can be asked. */

const KINDS = {
  quality: ["The edit", "What was asked for is there, and it looks right."],
  background: ["The background", "Compare with the original, apart from the object that changes."],
};
const STORED = "pinpoint-study-participant";
const $ = (id) => document.getElementById(id);

let session = null;
let steps = []; // [trial, question] in the order in which they are asked
let step = 0;
let saving = Promise.resolve(); // choices are saved one after the other
let newest = 0;

function participant() {
  const given = new URLSearchParams(location.search).get("participant");
  return given ?? localStorage.getItem(STORED) ?? crypto.randomUUID();
}

function show(screen) {
  for (const name of ["welcome", "trial", "done", "problem"]) $(name).hidden = name !== screen;
  $("progress").hidden = screen !== "trial";
}

async function begin() {
  try {
    const reply = await fetch(`session?${new URLSearchParams({ participant: participant() })}`);
    if (!reply.ok) throw new Error(await reply.text());
    session = await reply.json();
    localStorage.setItem(STORED, session.participant); // only now: a name that the server refuses is not kept
  } catch (error) {
    $("reason").textContent = `${error.message}. Is the study still being served?`;
    show("problem");
    return;
  }
  const questions = Object.keys(session.questions);
  steps = session.trials.flatMap((trial) => questions.map((question) => [trial, question]));
  const open = steps.findIndex(([trial, question]) => trial.answers[question] === null);
  $("count").textContent = session.trials.length;
  if (open === -1) finish();
  else if (open > 0) ask(open);
  else {
    show("welcome");
    $("start").focus();
  }
}

function finish() {
  show("done");
  $("done").querySelector("h2").focus();
}

function ask(number) {
  step = number;
  const [trial, question] = steps[step];
  const questions = Object.keys(session.questions);
  const shown = session.trials.indexOf(trial) + 1;
  show("trial");
  say("");
  $("where").textContent = `Image ${shown} of ${session.trials.length}`;
  $("bar").max = steps.length;
  $("bar").value = step;
  const [kind, hint] = KINDS[question];
  $("kind").textContent = `Question ${questions.indexOf(question) + 1} of ${questions.length} · ${kind}`;
  $("question").textContent = session.questions[question];
  $("hint").textContent = hint;
  $("original").src = `pictures/${trial.picture}`;
  spell($("source"), trial.source, false);
  spell($("target"), trial.target, true);
  $("edits").replaceChildren(...trial.edits.map((name, k) => card(name, k, trial.answers[question] === k)));
  $("back").disabled = step === 0;
  $("next").disabled = trial.answers[question] === null;
  $("question").focus({ preventScroll: true });
  scrollTo(0, 0);
  preload(steps[step + 1]?.[0]);
}

/** A prompt in its pieces, those that are new marked. */
function spell(element, pieces, marked) {
  const parts = pieces.flatMap(([text, isNew]) => {
    if (!marked || !isNew) return [text];
    const part = document.createElement("mark");
    part.textContent = text.trim();
    return [text.slice(0, text.indexOf(part.textContent)), part];
  });
  element.replaceChildren(...parts);
}

function card(name, number, chosen) {
  const label = document.createElement("label");
  label.className = "edit";
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "choice", value: number, checked: chosen });
  radio.addEventListener("change", () => choose(number));
  const image = document.createElement("img");
  Object.assign(image, { src: `pictures/${name}`, alt: `Edit ${number + 1}` });
  const caption = document.createElement("span");
  const key = document.createElement("kbd");
  key.textContent = number + 1;
  caption.append(key);
  label.append(radio, image, caption);
  return label;
}

function preload(trial) {
  for (const name of trial ? [trial.picture, ...trial.edits] : []) new Image().src = `pictures/${name}`;
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

/** Save a choice; only when it is on disk does the page go on. */
function choose(number) {
  const [trial, question] = steps[step];
  const mine = ++newest;
  $("next").disabled = true;
  say("Saving …");
  saving = saving.then(async () => {
    let problem = "";
    try {
      const answer = { participant: session.participant, item: trial.item, question, choice: number };
      const reply = await fetch("answer", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(answer),
      });
      if (!reply.ok) problem = await reply.text();
    } catch {
      problem = "the study's server does not answer";
    }
    if (!problem) trial.answers[question] = number;
    if (mine !== newest || steps[step][0] !== trial || steps[step][1] !== question) return;
    say(problem ? `Not saved: ${problem}. Choose again to retry.` : "Saved", Boolean(problem));
    if (problem) for (const radio of $("edits").querySelectorAll("input")) radio.checked = false;
    $("next").disabled = Boolean(problem);
  });
}

function next() {
  if ($("next").disabled) return;
  if (step + 1 < steps.length) ask(step + 1);
  else finish();
}

function compare(on) {
  if ($("trial").hidden || $("trial").classList.contains("comparing") === on) return;
  const [trial] = steps[step];
  $("trial").classList.toggle("comparing", on);
  $("compare").setAttribute("aria-pressed", on);
  $("edits").querySelectorAll("img").forEach((image, k) => {
    image.src = `pictures/${on ? trial.picture : trial.edits[k]}`;
  });
}

document.addEventListener("keydown", (event) => {
  if ($("trial").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const radio = /^[1-9]$/.test(event.key) ? $("edits").querySelectorAll("input")[event.key - 1] : null;
  if (radio) {
    radio.focus();
    radio.checked = true;
    if (!event.repeat) choose(Number(event.key) - 1);
  } else if (event.key.toLowerCase() === "c") compare(true);
  else if (event.key === "Enter" && event.target.tagName !== "BUTTON") {
    event.preventDefault();
    if (!event.repeat) next();
  }
});
document.addEventListener("keyup", (event) => event.key.toLowerCase() === "c" && compare(false));
addEventListener("blur", () => compare(false));
for (const name of ["pointerdown", "pointerup", "pointerleave", "pointercancel"])
  $("compare").addEventListener(name, () => compare(name === "pointerdown"));

$("trial").addEventListener("submit", (event) => {
  event.preventDefault();
  next();
});
$("back").addEventListener("click", () => ask(step - 1));
$("start").addEventListener("click", () => ask(0));
$("review").addEventListener("click", () => ask(0));
$("again").addEventListener("click", begin);
$("other").addEventListener("click", () => {
  localStorage.removeItem(STORED);
  if (location.search) location.search = "";
  else begin();
});
begin();
