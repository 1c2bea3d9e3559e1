// The report's gallery: sorts and filters the cards, and fills a card's images in when it comes near the window.
"use strict";

const index = JSON.parse(document.getElementById("index").textContent);
const byId = (id) => document.getElementById(id);
const metricOf = Object.fromEntries(index.metrics.map((metric, k) => [metric.name, { ...metric, k }]));
const cards = byId("cards");
const images = new Map();

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Values

const shown = (metric, value) => (value === null || value === undefined ? "–" : (value * metric.scale).toFixed(metric.digits));
const valueOf = (item, method, metric) => item.values[method]?.[metric.k] ?? null;

function sortValue(item, metric, method) {
  if (method !== "") return valueOf(item, method, metric);
  const values = index.methods.map((name) => valueOf(item, name, metric)).filter((value) => value !== null);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

function inOrder(items, metric, method, order) {
  if (order === "given" || !metric) return items; // no metric: every edit failed
  const up = (order === "worst") === metric.higher;
  const known = items.map((item, number) => ({ item, number, value: sortValue(item, metric, method) }));
  const rank = ({ value }) => (value === null ? 1 : 0);
  known.sort((a, b) => rank(a) - rank(b) || (up ? a.value - b.value : b.value - a.value) || a.number - b.number);
  return known.map(({ item }) => item);
}

// Images

function imagesOf(item) {
  if (!images.has(item)) images.set(item, JSON.parse(byId(`item-${item.k}`).textContent));
  return images.get(item);
}

function outline(own) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${own.width} ${own.height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const kind of ["under", "over"]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("class", kind);
    path.setAttribute("d", own.outline);
    svg.append(path);
  }
  return svg;
}

function frame(own, source, { edit = false, alt, open = null, width = 152 } = {}) {
  const image = make("img", { src: source, alt, width: own.width, height: own.height, decoding: "async" });
  const kind = `frame${edit ? " edit" : ""}${width >= 3 * own.width ? " pixels" : ""}`;
  return open
    ? make("button", { class: kind, type: "button", onclick: open, "aria-label": `${alt}: larger` }, image, outline(own))
    : make("span", { class: kind }, image, outline(own));
}

const figure = (content, caption) => make("figure", {}, content, caption ? make("figcaption", {}, caption) : null);
const marked = (parts) => parts.map(([text, changed]) => (changed ? make("mark", {}, text) : text));
const text = (label, parts) => make("p", { class: "text" }, make("b", {}, label), ...marked(parts));

// Cards

function shownMetrics(metric) {
  if (!metric) return [];
  if (byId("all").checked) return [metric, ...index.metrics.filter(({ name }) => name !== metric.name)];
  const names = new Set([metric.name, ...index.key]);
  return [...names].slice(0, 4).map((name) => metricOf[name]);
}

function valueRow(item, { name }, sorted) {
  const metric = metricOf[name];
  const values = index.methods.map((method) => valueOf(item, method, metric));
  const known = values.filter((value) => value !== null);
  const [best, worst] = metric.higher
    ? [Math.max(...known), Math.min(...known)]
    : [Math.min(...known), Math.max(...known)];
  const cell = (value) => {
    const kind = value === null || best === worst ? "" : value === best ? "top" : value === worst ? "low" : "";
    return make("td", { class: kind }, shown(metric, value));
  };
  return make("tr", { class: sorted ? "sorted" : "" }, make("th", { scope: "row", title: metric.what }, metric.heading), ...values.map(cell));
}

function imageCell(item, own, method) {
  const source = own.images[method];
  if (source) {
    const open = () => openLarge(item, method);
    return make("td", {}, figure(frame(own, source, { edit: true, alt: `${item.id} by ${method}`, open }), ""));
  }
  if (!(method in item.values)) return make("td", {}, make("div", { class: "none" }, "not run"));
  return make("td", {}, make("div", { class: "error" }, item.errors[method] ?? "no image"));
}

function fill(card) {
  const item = index.items[card.dataset.k];
  const own = imagesOf(item);
  const metric = metricOf[byId("metric").value];
  const source = own.source
    ? frame(own, own.source, { alt: `${item.id}, source` })
    : make("div", { class: "error" }, own.unreadable);
  const given = [figure(source, "source")];
  if (own.target) given.push(figure(frame(own, own.target, { edit: true, alt: `${item.id}, true edit` }), "true edit"));
  const rows = shownMetrics(metric).map((one, k) => valueRow(item, one, k === 0));
  const head = make("tr", {}, make("th"), ...index.methods.map((method) => make("th", { scope: "col" }, method)));
  const shots = make("tr", {}, make("th"), ...index.methods.map((method) => imageCell(item, own, method)));
  card.replaceChildren(
    make(
      "div",
      {},
      make("h3", {}, make("span", { class: "rank" }, `${card.dataset.rank}.`), item.id),
      make("span", { class: "task" }, item.task),
      text("source", item.source),
      text("target", item.target),
      make("div", { class: `given${own.target ? " two" : ""}` }, ...given),
    ),
    make("div", { class: "methods", tabindex: "0", role: "group", "aria-label": `${item.id}, by method` },
      make("table", {}, make("thead", {}, head), make("tbody", {}, shots, ...rows))),
  );
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    fill(entry.target);
  }
}, { rootMargin: "900px 0px" });

function show() {
  const metric = metricOf[byId("metric").value];
  const group = byId("group").value;
  const words = byId("find").value.trim().toLowerCase();
  const found = index.items.filter((item) => (group === "" || item.group === group) && item.words.includes(words));
  const ordered = inOrder(found, metric, byId("method").value, byId("order").value);
  watcher.disconnect();
  cards.className = byId("outlines").checked ? "" : "plain";
  cards.replaceChildren(
    ...ordered.map((item, number) => {
      const card = make("article", { class: "card", tabindex: "0", "aria-label": item.id });
      card.dataset.k = item.k;
      card.dataset.rank = number + 1;
      watcher.observe(card);
      return card;
    }),
  );
  if (!ordered.length) cards.append(make("p", { class: "none" }, "No image fits."));
  byId("count").textContent = `${ordered.length} of ${index.items.length} images`;
}

// One image, large

let opened = null;

function openLarge(item, method) {
  opened = { item, method };
  const own = imagesOf(item);
  const wide = { width: 400 };
  const parts = [figure(frame(own, own.source, { alt: "source", ...wide }), make("span", {}, ...marked(item.source)))];
  const result = own.images[method]
    ? frame(own, own.images[method], { edit: true, alt: method, ...wide })
    : make("div", { class: "error" }, item.errors[method] ?? "no image");
  parts.push(figure(result, make("span", {}, ...marked(item.target))));
  if (own.target) parts.push(figure(frame(own, own.target, { edit: true, alt: "true edit", ...wide }), "true edit"));
  const values = index.metrics.map((metric) =>
    make("div", {}, make("dt", { title: metric.what }, metric.heading), make("dd", {}, shown(metric, valueOf(item, method, metricOf[metric.name])))));
  byId("large-title").textContent = `${item.id}: ${method}`;
  byId("large-body").className = byId("outlines").checked ? "" : "plain";
  byId("large-body").replaceChildren(make("div", { class: "pair" }, ...parts), make("dl", { class: "values" }, ...values));
  if (!byId("large").open) byId("large").showModal();
}

byId("large").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || !opened) return;
  event.preventDefault();
  const count = index.methods.length;
  const next = (index.methods.indexOf(opened.method) + step + count) % count;
  openLarge(opened.item, index.methods[next]);
});
byId("large").addEventListener("click", (event) => event.target === byId("large") && byId("large").close());

// Keys, controls, tables

document.addEventListener("keydown", (event) => {
  const step = { j: 1, k: -1 }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey || byId("large").open) return;
  if (event.target.matches?.("input, select, textarea")) return;
  const all = [...cards.querySelectorAll(".card")];
  const here = all.indexOf(document.activeElement?.closest?.(".card"));
  const next = all[Math.min(Math.max(here + step, 0), all.length - 1)];
  if (!next) return;
  event.preventDefault();
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "start", behavior: "instant" });
});

function sortTable(button) {
  const head = button.closest("th");
  const table = head.closest("table");
  const column = [...head.parentElement.children].indexOf(head);
  const first = head.dataset.better;
  const down = head.getAttribute("aria-sort") === first ? (first === "descending" ? "ascending" : "descending") : first;
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down);
  const key = (row) => Number(row.children[column].dataset.value || NaN);
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [one, other] = [key(a), key(b)];
    if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other);
    return down === "descending" ? other - one : one - other;
  });
  table.tBodies[0].append(...rows);
}

const option = (value, label) => make("option", { value }, label);
byId("metric").append(...index.metrics.map(({ name, heading }) => option(name, heading)));
byId("metric").value = index.first;
byId("method").append(option("", "all methods (mean)"), ...index.methods.map((method) => option(method, method)));
byId("group").append(option("", "all"), ...index.groups.map((group) => option(group, group)));
byId("group-label").hidden = index.groups.length < 2;
byId("controls").addEventListener("input", show);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll(".results thead button")) button.addEventListener("click", () => sortTable(button));
show();
