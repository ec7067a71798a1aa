import { get, ofCollection, post } from "./api.js";
import { el, field, number, problem, select, show } from "./dom.js";
import { Scatter } from "./scatter.js";

export async function open(place, state) {
  if (!state.collections.length) {
    show(place, el("h2", {}, "Map"), el("p", { class: "lead" }, "This server has no collection to draw. Start it with --collection FOLDER."));
    return;
  }
  const [which, collection] = select("Collection", state.collections.map((one) => one.name));
  const [by, colour] = select("Colour by", [["", "nothing"]]);
  const query = el("input", { type: "search", placeholder: "Drop a query on the map", autocomplete: "off" });
  const canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the collection. Arrow keys move it, plus and minus zoom, 0 shows all." });
  const tip = el("div", { class: "tip", hidden: true });
  const legend = el("div", { class: "legend" });
  const status = el("p", { class: "meta", role: "status" });
  const below = el("div", { "aria-live": "polite" });
  const scatter = new Scatter(canvas);
  let ids = [];
  let shown = -1;

  const load = async () => {
    const name = collection.value;
    status.textContent = "Drawing the map …";
    try {
      let map;
      for (;;) {
        const asked = colour.value ? `?colour=${encodeURIComponent(colour.value)}` : "";
        map = (await get(ofCollection(name, `/map${asked}`))).answer;
        if (map.status === "ready" || name !== collection.value || !canvas.isConnected) break;
        await new Promise((done) => setTimeout(done, 400));
      }
      if (name !== collection.value) return;
      ids = map.ids;
      if (colour.options.length === 1) for (const one of map.fields) colour.append(el("option", { value: one }, one));
      scatter.load(map);
      show(legend, ...scatter.legend().map(([code, text]) => el("span", {}, dot(scatter.colour(code)), text)));
      status.textContent = `${number(map.count)} documents along the two directions in which they differ most`;
    } catch (error) {
      status.textContent = "";
      show(below, problem(error));
    }
  };

  scatter.onhover = async (index, x, y) => {
    shown = index;
    tip.hidden = index < 0;
    if (index < 0) return;
    tip.style.left = `${Math.max(4, Math.min(x + 14, canvas.clientWidth - 310))}px`;
    tip.style.top = `${y + 14}px`;
    tip.textContent = String(ids[index]);
    try {
      const { answer } = await post(ofCollection(collection.value, "/documents/get"), { ids: [ids[index]] }, { remember: false });
      if (shown === index) tip.textContent = (answer.documents[0]?.text ?? "It has been deleted.").slice(0, 280);
    } catch { /* the id stays */ }
  };
  scatter.onpick = async (index) => {
    try {
      const document_ = (await post(ofCollection(collection.value, "/documents/get"), { ids: [ids[index]] }, { remember: false })).answer.documents[0];
      await neighbors(document_.text, `Neighbors of ${ids[index]}`);
    } catch (error) {
      show(below, problem(error));
    }
  };
  const neighbors = async (text, title) => {
    const { answer } = await post(ofCollection(collection.value, "/search"), { query: text, k: 8, truncate: true });
    scatter.ring(answer.hits.map((hit) => ids.indexOf(hit.id)).filter((index) => index >= 0));
    show(below, el("div", { class: "card" }, el("h3", {}, title), ...answer.hits.map((hit) => el("article", { class: "hit" }, el("span", { class: "score" }, number(hit.score, 4)), el("p", { class: "text" }, hit.text)))));
  };
  const form = el("form", { class: "card" }, el("div", { class: "row" }, which, by, el("div", { class: "grow" }, field("Query", query)), el("button", { class: "primary" }, "Drop it")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { answer } = await post(ofCollection(collection.value, "/map/place"), { query: query.value });
      scatter.drop(answer.x, answer.y);
      await neighbors(query.value, "Nearest to the query");
    } catch (error) {
      show(below, problem(error));
    }
  });
  collection.addEventListener("change", () => {
    colour.replaceChildren(el("option", { value: "" }, "nothing"));
    show(below);
    load();
  });
  colour.addEventListener("change", load);
  show(place, el("h2", {}, "Map"), el("p", { class: "lead" }, "Hover a point for its text, click it for its neighbors, scroll or pinch to zoom."), form,
    el("div", { class: "card" }, status, el("div", { class: "map" }, canvas, tip), legend), below);
  const resized = new ResizeObserver(() => scatter.draw());
  resized.observe(canvas);
  load();
  return () => resized.disconnect();
}

function dot(colour) {
  const made = el("i");
  made.style.background = colour;
  return made;
}
