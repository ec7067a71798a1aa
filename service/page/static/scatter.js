// Points on a canvas: tens of thousands at the screen's rate, found by a grid under the pointer.
const FULL = 65535;
const CELLS = 128;
const NONE = 255;
const COLORS = ["#4c6ef5", "#f76707", "#37b24d", "#e64980", "#15aabf", "#ae3ec9", "#f59f00", "#74b816", "#1098ad", "#7048e8", "#d6336c", "#868e96"];

export class Scatter {
  constructor(canvas) {
    this.canvas = canvas;
    this.x = this.y = new Uint16Array(0);
    this.colours = null;
    this.rings = [];
    this.dropped = null;
    this.onhover = this.onpick = () => {};
    this.fit();
    this.listen();
  }

  fit() { this.view = { x: -0.04, y: -0.04, size: 1.08 }; }

  load(map) {
    this.x = numbers(map.x);
    this.y = numbers(map.y);
    this.colours = map.colours && { ...map.colours, codes: bytes(map.colours.codes) };
    this.rings = [];
    this.dropped = null;
    this.cells = new Map();
    for (let i = 0; i < this.x.length; i++) {
      const cell = this.cell(this.x[i] / FULL, this.y[i] / FULL);
      if (!this.cells.has(cell)) this.cells.set(cell, []);
      this.cells.get(cell).push(i);
    }
    this.fit();
    this.draw();
  }

  cell(x, y) { return Math.floor(x * CELLS) * 1000 + Math.floor(y * CELLS); }
  colour(code) {
    if (!this.colours) return COLORS[0];
    if (code === NONE) return "#868e96";
    if (!this.colours.labels) return `hsl(${250 - code}, 75%, 55%)`;
    return COLORS[code % COLORS.length];
  }

  legend() {
    if (!this.colours) return [];
    if (this.colours.labels) return this.colours.labels.map((text, code) => [code, text]);
    return [[0, String(this.colours.least)], [127, "…"], [254, String(this.colours.most)]];
  }

  ring(indices) { this.rings = indices; this.draw(); }
  drop(x, y) { this.dropped = [x / FULL, y / FULL]; this.draw(); }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.paint(); });
  }

  paint() {
    const { canvas, view } = this;
    const scale = devicePixelRatio;
    const width = canvas.clientWidth * scale;
    const height = canvas.clientHeight * scale;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const size = scale * Math.max(1.2, Math.min(6, (this.x.length > 5000 ? 1.2 : 3.6) / Math.sqrt(view.size)));
    const byCode = new Map();
    for (let i = 0; i < this.x.length; i++) {
      const x = ((this.x[i] / FULL - view.x) / view.size) * width;
      const y = height - ((this.y[i] / FULL - view.y) / view.size) * height;
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      const code = this.colours ? this.colours.codes[i] : 0;
      if (!byCode.has(code)) byCode.set(code, []);
      byCode.get(code).push(x, y);
    }
    pen.globalAlpha = this.x.length > 5000 ? 0.6 : 0.8;
    for (const [code, places] of byCode) {
      pen.fillStyle = this.colour(code);
      if (this.x.length > 5000) {
        for (let i = 0; i < places.length; i += 2) pen.fillRect(places[i] - size, places[i + 1] - size, 2 * size, 2 * size);
      } else {
        pen.beginPath();
        for (let i = 0; i < places.length; i += 2) { pen.moveTo(places[i] + size, places[i + 1]); pen.arc(places[i], places[i + 1], size, 0, 7); }
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.lineWidth = 2 * scale;
    for (const index of this.rings) circle(pen, ...this.at(this.x[index] / FULL, this.y[index] / FULL, width, height), 8 * scale);
    if (this.dropped) {
      const [x, y] = this.at(...this.dropped, width, height);
      pen.strokeStyle = "#e03131";
      pen.lineWidth = 3 * scale;
      circle(pen, x, y, 9 * scale);
      circle(pen, x, y, 2 * scale);
    }
  }

  at(x, y, width, height) { return [((x - this.view.x) / this.view.size) * width, height - ((y - this.view.y) / this.view.size) * height]; }
  under(px, py) { return [this.view.x + (px / this.canvas.clientWidth) * this.view.size, this.view.y + (1 - py / this.canvas.clientHeight) * this.view.size]; }

  nearest(px, py) {
    const [x, y] = this.under(px, py);
    const reach = (12 / this.canvas.clientWidth) * this.view.size;
    let best = -1;
    let distance = reach * reach;
    for (let cx = Math.floor((x - reach) * CELLS); cx <= Math.floor((x + reach) * CELLS); cx++) {
      for (let cy = Math.floor((y - reach) * CELLS); cy <= Math.floor((y + reach) * CELLS); cy++) {
        for (const i of this.cells?.get(cx * 1000 + cy) ?? []) {
          const d = (this.x[i] / FULL - x) ** 2 + (this.y[i] / FULL - y) ** 2;
          if (d < distance) [best, distance] = [i, d];
        }
      }
    }
    return best;
  }

  zoom(factor, px = this.canvas.clientWidth / 2, py = this.canvas.clientHeight / 2) {
    const [x, y] = this.under(px, py);
    const size = Math.min(4, Math.max(0.002, this.view.size * factor));
    const share = size / this.view.size;
    this.view = { x: x - (x - this.view.x) * share, y: y - (y - this.view.y) * share, size };
    this.draw();
  }

  move(dx, dy) {
    this.view.x -= (dx / this.canvas.clientWidth) * this.view.size;
    this.view.y += (dy / this.canvas.clientHeight) * this.view.size;
    this.draw();
  }

  listen() {
    const { canvas } = this;
    const held = new Map();
    let moved = 0;
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); held.set(e.pointerId, [e.offsetX, e.offsetY]); moved = 0; });
    canvas.addEventListener("pointermove", (e) => {
      const before = held.get(e.pointerId);
      if (!before) return this.onhover(this.nearest(e.offsetX, e.offsetY), e.offsetX, e.offsetY);
      const others = [...held].filter(([id]) => id !== e.pointerId).map(([, place]) => place);
      if (others.length) this.zoom(gap(before, others[0]) / Math.max(1, gap([e.offsetX, e.offsetY], others[0])), ...others[0]);
      else this.move(e.offsetX - before[0], e.offsetY - before[1]);
      moved += Math.abs(e.offsetX - before[0]) + Math.abs(e.offsetY - before[1]);
      held.set(e.pointerId, [e.offsetX, e.offsetY]);
    });
    const release = (e) => { held.delete(e.pointerId); };
    canvas.addEventListener("pointerup", (e) => {
      release(e);
      const index = this.nearest(e.offsetX, e.offsetY);
      if (moved < 5 && index >= 0) this.onpick(index);
    });
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", () => this.onhover(-1, 0, 0));
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(e.deltaY / 400), e.offsetX, e.offsetY); }, { passive: false });
    canvas.addEventListener("keydown", (e) => {
      const moves = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
      if (moves[e.key]) this.move(...moves[e.key]);
      else if (e.key === "+" || e.key === "=") this.zoom(0.8);
      else if (e.key === "-") this.zoom(1.25);
      else if (e.key === "0") { this.fit(); this.draw(); } else return;
      e.preventDefault();
    });
  }
}

const gap = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const numbers = (text) => new Uint16Array(bytes(text).buffer);
function circle(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.stroke();
}
