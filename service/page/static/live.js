import { get } from "./api.js";
import { el, number, problem, show } from "./dom.js";

const KEPT = 120;

export function open(place) {
  const figures = el("div", { class: "figures" });
  const models = el("div", { class: "card" });
  const trouble = el("div");
  const spark = el("canvas", { class: "spark", role: "img", "aria-label": "Tokens per second over the last two minutes" });
  const seen = [];
  const tick = async () => {
    try {
      const { answer } = await get("v1/stats");
      seen.push(answer.tokens_per_second);
      if (seen.length > KEPT) seen.shift();
      show(trouble);
      draw(figures, models, answer);
      line(spark, seen);
    } catch (error) {
      show(trouble, problem(error));
    }
  };
  show(place, el("h2", {}, "Live"), el("p", { class: "lead" }, "The last minute, every second. GET /metrics has all of it for Prometheus."), trouble, figures, el("div", { class: "card" }, el("h3", {}, "Tokens per second"), spark), models);
  tick();
  const timer = setInterval(tick, 1000);
  return () => clearInterval(timer);
}

function draw(figures, models, stats) {
  const shown = [["requests per second", number(stats.requests_per_second, 2)], ["tokens per second", number(stats.tokens_per_second, 0)], ...Object.entries(stats.latency_ms).map(([name, value]) => [`${name}, ms`, number(value, 1)]),
    ["under way", number(stats.under_way)], ["refused or failed", number(stats.errors)]];
  show(figures, ...shown.map(([name, value]) => el("div", { class: "figure" }, el("b", {}, value), el("span", {}, name))));
  const rows = Object.entries(stats.models).map(([name, one]) => [name, number(one.queue_tokens), number(one.speed, 0), number(one.batch_tokens)]);
  show(models, el("h3", {}, "Queues"), el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...["model", "tokens waiting", "tokens per second it can do", "tokens per batch"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((value) => el("td", {}, value))))))));
}

function line(canvas, values) {
  const scale = devicePixelRatio;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const most = Math.max(...values, 1);
  const style = getComputedStyle(canvas);
  pen.strokeStyle = style.getPropertyValue("--bar");
  pen.lineWidth = 2;
  pen.beginPath();
  values.forEach((value, index) => pen.lineTo((index / (KEPT - 1)) * width, height - 8 - (value / most) * (height - 24)));
  pen.stroke();
  pen.fillStyle = style.getPropertyValue("--dim");
  pen.font = "12px system-ui";
  pen.fillText(`${number(most, 0)} at most`, 8, 14);
}
