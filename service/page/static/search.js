import { ofCollection, post } from "./api.js";
import { el, field, marked, number, problem, select, show } from "./dom.js";

const TITLES = { dense: "By meaning", lexical: "By words", hybrid: "Both, fused" };

export function open(place, state) {
  if (!state.collections.length) {
    show(place, el("h2", {}, "Search"), el("p", { class: "lead" }, "This server has no collection yet. Start it with --collection FOLDER, or with --data FOLDER and make one over HTTP: POST /v1/collections."));
    return;
  }
  const [which, collection] = select("Collection", state.collections.map((one) => [one.name, `${one.name} (${number(one.documents)})`]));
  const [how, mode] = select("Show", [["compare", "All three side by side"], ...Object.entries(TITLES)]);
  const query = el("input", { type: "search", placeholder: "What are you looking for?", autocomplete: "off" });
  const k = el("input", { type: "number", min: "1", max: "100", value: "5" });
  const where = el("input", { placeholder: '{"year": {"$gte": 2000}}', spellcheck: false });
  const results = el("div", { "aria-live": "polite" });
  const form = el("form", { class: "card" },
    el("div", { class: "row" }, which, el("div", { class: "grow" }, field("Query", query)), el("button", { class: "primary" }, "Search")),
    el("details", {}, el("summary", {}, "Options"), el("div", { class: "row" }, how, field("Hits", k), el("div", { class: "grow" }, field("Filter over metadata (JSON)", where)))));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    show(results, el("p", { class: "meta" }, "Searching …"));
    try {
      const filter = where.value.trim() ? parsed(where.value) : null;
      const modes = mode.value === "compare" ? Object.keys(TITLES) : [mode.value];
      const found = [];
      for (const one of modes) {
        const body = { query: query.value, k: Number(k.value) || 5, mode: one, highlight: true, truncate: true };
        if (filter) body.where = filter;
        found.push([one, await post(ofCollection(collection.value, "/search"), body)]);
      }
      show(results, el("div", { class: "columns" }, ...found.map(([one, call]) => column(one, call))));
    } catch (error) {
      show(results, problem(error));
    }
  });
  show(place, el("h2", {}, "Search"), el("p", { class: "lead" }, "The same query by meaning, by words, and by both."), form, results);
  if (document.activeElement === document.body) query.focus({ preventScroll: true });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("The filter is not JSON. Expected something like {\"year\": {\"$gte\": 2000}}.");
  }
}

function column(mode, { answer, ms, timing }) {
  const hits = answer.hits;
  return el("div", { class: "card" }, el("h3", {}, TITLES[mode]),
    el("p", { class: "meta", title: timing }, `${hits.length} ${hits.length === 1 ? "hit" : "hits"} in ${number(ms, 1)} ms`),
    ...(hits.length ? hits.map(hit) : [el("p", {}, "Nothing was found.")]));
}

function hit(found) {
  const tags = Object.entries(found.metadata).slice(0, 6).map(([name, value]) => el("span", { class: "tag" }, `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`));
  const parts = found.parts.map((part) => el("span", { class: "tag" }, `${part.name} no. ${part.rank} (${number(part.score)})`));
  const made = el("article", { class: "hit" },
    el("span", { class: "score" }, number(found.score, 4)), " ", el("span", { class: "tag" }, String(found.id)),
    el("p", { class: "text" }, ...marked(found.text, found.highlights)), el("div", {}, ...parts, ...tags));
  if (found.text.length > 300) {
    const more = el("button", { type: "button", "aria-expanded": "false" }, "Show all");
    more.addEventListener("click", () => {
      const open = made.classList.toggle("open");
      more.textContent = open ? "Show less" : "Show all";
      more.setAttribute("aria-expanded", open);
    });
    made.append(more);
  }
  return made;
}
