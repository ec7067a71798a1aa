// Elements without innerHTML: whatever a user or a document says becomes text, never markup.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function field(label, input) {
  input.id ||= "f" + Math.random().toString(36).slice(2);
  return el("div", {}, el("label", { for: input.id }, label), input);
}

export function select(label, options, attributes = {}) {
  const input = el("select", attributes);
  for (const option of options) {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    input.append(el("option", { value }, text));
  }
  return [field(label, input), input];
}

export function show(place, ...children) {
  place.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

export function problem(error) {
  return el("p", { class: "error", role: "alert" }, error.message);
}

export const number = (value, digits = 3) => Number(value).toLocaleString("en", { maximumFractionDigits: digits });

// Marks in Unicode characters, as the server counts; JavaScript's strings count UTF-16 units.
export function marked(text, spans) {
  if (!spans.length) return [text];
  const letters = Array.from(text);
  const parts = [];
  let at = 0;
  for (const [start, end] of spans) {
    parts.push(letters.slice(at, start).join(""), el("mark", {}, letters.slice(start, end).join("")));
    at = end;
  }
  return [...parts, letters.slice(at).join("")];
}
