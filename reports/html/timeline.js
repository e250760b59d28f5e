// A time line: what was asked, what was answered and which policy was in force,
// on one canvas. Nothing is judged here; findings stand in the data.
class Timeline {
  // More marks than these are not told apart by anybody: they are drawn together.
  static MOST = 10000;
  static ROW = 34;
  static LEFT = 190;

  static async from(host) {
    const text = host.querySelector("script").textContent;
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Timeline(host, JSON.parse(await new Response(stream).text()));
  }

  constructor(host, data) {
    this.host = host;
    this.data = data;
    const r = data.requests;
    const n = (r.t || []).length;
    this.n = n;
    this.start = new Float64Array(n);
    for (let i = 0, at = 0; i < n; i++) this.start[i] = at += r.t[i];
    this.logs = (data.logs || []).map(log => {
      const times = new Float64Array((log.t || []).length);
      for (let i = 0, at = 0; i < times.length; i++) times[i] = at += log.t[i];
      return { ...log, times };
    });
    this.showLogs = true;
    this.wrong = new Map();
    (data.findings || []).forEach((f, i) => { if (f.request >= 0 && !this.wrong.has(f.request)) this.wrong.set(f.request, i); });
    this.lanes = this.makeLanes();
    this.from = 0;
    this.to = Math.max(data.end, 1000);
    this.chosen = -1;
    this.lane = 0;
    this.build();
    this.draw();
  }

  // One lane for each stream at each proxy that answered it, and one for each
  // connection that was held.
  makeLanes() {
    const { requests: r, streams, proxies } = this.data;
    const at = new Map();
    for (let i = 0; i < this.n; i++) {
      const key = r.s[i] * 4096 + r.p[i] + 1;
      if (!at.has(key)) at.set(key, []);
      at.get(key).push(i);
    }
    const lanes = [...at.keys()].sort((a, b) => a - b).map(key => {
      const stream = Math.floor(key / 4096), proxy = key % 4096 - 1;
      return { stream, proxy, places: Int32Array.from(at.get(key)),
        title: `${streams[stream].name} → ${streams[stream].target}`,
        under: `${streams[stream].protocol}, ${proxy < 0 ? "proxy unknown" : Timeline.short(proxies[proxy].pod)}` };
    });
    (this.data.holds || []).forEach(hold => lanes.push({ hold, proxy: hold.proxy, stream: -1, places: new Int32Array(0), title: `${hold.name} (held)`,
      under: hold.proxy < 0 ? "" : Timeline.short(proxies[hold.proxy].pod) }));
    return lanes;
  }

  static short(pod) {
    const name = pod.slice(pod.indexOf("/") + 1);
    return name.length > 24 ? "…" + name.slice(-23) : name;
  }

  static time(us) {
    const size = Math.abs(us);
    if (size < 1000) return `${Math.round(us)} µs`;
    if (size < 1e6) return `${(us / 1000).toFixed(size < 1e5 ? 1 : 0)} ms`;
    return `${(us / 1e6).toFixed(3)} s`;
  }

  static element(name, properties, ...children) {
    const e = Object.assign(document.createElement(name), properties);
    e.append(...children.filter(c => c !== null && c !== undefined));
    return e;
  }

  build() {
    const el = Timeline.element;
    const button = (text, label, run) => {
      const b = el("button", { type: "button", textContent: text, title: label });
      b.setAttribute("aria-label", label);
      b.addEventListener("click", run);
      return b;
    };
    const steps = el("select", {}, el("option", { value: "", textContent: "whole time" }),
      ...this.data.steps.map((s, i) => el("option", { value: i, textContent: s.name })));
    steps.setAttribute("aria-label", "Part of the time line");
    steps.addEventListener("change", () => {
      const step = this.data.steps[steps.value];
      step ? this.view(step.from, step.to) : this.view(0, this.data.end);
    });
    this.select = steps;
    const wrong = (this.data.findings || []).length;
    this.status = el("span", { className: "grow" });
    this.status.setAttribute("role", "status");
    const bar = el("div", { className: "bar" }, steps, button("−", "zoom out", () => this.zoom(2)), button("+", "zoom in", () => this.zoom(0.5)),
      button("‹ change", "to the change before", () => this.change(-1)), button("change ›", "to the next change", () => this.change(1)),
      button("‹ finding", "to the finding before", () => this.finding(-1)), button("finding ›", "to the next finding", () => this.finding(1)), this.status);
    if (!wrong) for (const b of [...bar.querySelectorAll("button")].slice(-2)) b.disabled = true;
    this.canvas = el("canvas", { tabIndex: 0 });
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "time line");
    this.canvas.setAttribute("aria-label", `${this.n} requests in ${this.lanes.length} lanes over ${Timeline.time(this.data.end)}, ${this.data.writes.length} changes, ${wrong} findings. ` +
      "Left and right walk through requests, up and down change the lane, plus and minus zoom, brackets go through findings.");
    const key = el("p", { className: "key" });
    for (const [name, text] of [["allowed", "allowed (upper half)"], ["denied", "denied (lower half)"], ["unclear", "neither"], ["wrong", "the rules say otherwise"],
      ["written", "written"], ["acked", "acknowledged"], ["seen", "seen by the controller, until in force at the proxy"], ["fault", "fault"]])
      key.append(el("span", {}, el("i", { className: `k-${name}` }), text));
    key.append(el("span", {}, "Drag to move, Ctrl + wheel or + − to zoom, ← → ↑ ↓ to walk, [ ] for findings"));
    this.card = el("div", { className: "card", hidden: true, tabIndex: -1 });
    this.card.setAttribute("aria-live", "polite");
    this.host.append(bar, this.canvas, key, this.card);

    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.canvas.addEventListener("keydown", e => this.key(e));
    this.canvas.addEventListener("focus", () => this.draw());
    this.canvas.addEventListener("blur", () => this.draw());
    this.canvas.addEventListener("wheel", e => {
      if (e.ctrlKey || e.metaKey) {
        e.preventDefault();
        this.zoom(e.deltaY > 0 ? 1.25 : 0.8, this.timeAt(e.offsetX));
      } else if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
        e.preventDefault();
        this.pan(e.deltaX * (this.to - this.from) / this.plot);
      }
    }, { passive: false });
    let down = null;
    this.canvas.addEventListener("pointerdown", e => {
      down = { x: e.offsetX, y: e.offsetY, from: this.from, moved: false, overview: e.offsetY > this.overview };
      this.canvas.setPointerCapture(e.pointerId);
      if (down.overview) this.centre((e.offsetX - Timeline.LEFT) / this.plot * this.data.end);
    });
    this.canvas.addEventListener("pointermove", e => {
      if (!down) return;
      if (down.overview) return this.centre((e.offsetX - Timeline.LEFT) / this.plot * this.data.end);
      if (Math.abs(e.offsetX - down.x) > 3) down.moved = true;
      if (down.moved) this.view(down.from + (down.x - e.offsetX) * (this.to - this.from) / this.plot, null);
    });
    this.canvas.addEventListener("pointerup", e => {
      if (down && !down.moved && !down.overview) this.pick(e.offsetX, e.offsetY);
      down = null;
    });
  }

  // view shows a part of the time; without an end, one as long as before.
  view(from, to) {
    const length = to === null ? this.to - this.from : Math.max(to - from, 200);
    const whole = Math.max(this.data.end, 1000);
    const size = Math.min(length, whole);
    this.from = Math.min(Math.max(from, 0), whole - size);
    this.to = this.from + size;
    const step = this.data.steps.findIndex(s => Math.abs(s.from - this.from) < 1 && Math.abs(s.to - this.to) < 1);
    this.select.value = step >= 0 ? step : "";
    this.draw();
  }
  zoom(factor, around = (this.from + this.to) / 2) {
    this.view(around - (around - this.from) * factor, around + (this.to - around) * factor);
  }
  pan(by) { this.view(this.from + by, null); }
  centre(at) { this.pan(at - (this.from + this.to) / 2); }
  timeAt(x) { return this.from + (x - Timeline.LEFT) / this.plot * (this.to - this.from); }
  x(us) { return Timeline.LEFT + (us - this.from) / (this.to - this.from) * this.plot; }

  // done is when a write was in force everywhere, as far as is known.
  done(write) { return Math.max(write.observed || 0, write.ack, ...(write.inForce || []).map(f => f.at)); }

  change(by) {
    // From the whole time the way leads to the first change, or to the last.
    const whole = this.to - this.from > this.data.end / 2;
    const middle = whole ? (by > 0 ? -Infinity : Infinity) : (this.from + this.to) / 2;
    const all = this.data.writes.map(w => [w.call, this.done(w)]);
    const next = by > 0 ? all.find(w => (w[0] + w[1]) / 2 > middle + 1) : all.filter(w => (w[0] + w[1]) / 2 < middle - 1).pop();
    if (!next) return;
    const margin = Math.max((next[1] - next[0]) * 2, 60000);
    this.view(next[0] - margin, next[1] + margin);
  }
  finding(by) {
    const all = this.data.findings || [];
    if (!all.length) return;
    this.current = this.current === undefined ? (by > 0 ? 0 : all.length - 1) : (this.current + by + all.length) % all.length;
    const f = all[this.current];
    if (f.request >= 0) return this.choose(f.request, true);
    this.view(f.at - 200000, f.at + 200000);
    this.tell(null, f);
  }

  color(name) { return this.styles.getPropertyValue("--" + name).trim(); }

  draw() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    this.styles = getComputedStyle(document.documentElement);
    const faults = this.data.faults || [];
    const head = 62 + (faults.length ? 16 : 0);
    const height = head + this.lanes.length * Timeline.ROW + 40;
    const ratio = devicePixelRatio || 1;
    this.canvas.style.height = height + "px";
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.plot = width - Timeline.LEFT - 12;
    this.head = head;
    this.overview = head + this.lanes.length * Timeline.ROW + 10;
    const c = this.c = this.canvas.getContext("2d");
    c.scale(ratio, ratio);
    c.font = '12px system-ui, "Segoe UI", "Liberation Sans", sans-serif';
    c.textBaseline = "middle";
    c.fillStyle = this.color("bg");
    c.fillRect(0, 0, width, height);
    c.save();
    c.beginPath();
    c.rect(Timeline.LEFT, 0, this.plot, this.overview);
    c.clip();
    this.drawAxis();
    this.drawVersions();
    this.drawFaults(faults);
    let marks = this.drawRequests();
    c.restore();
    this.drawNames();
    this.drawOverview();
    this.host.dataset.marks = marks;
    this.host.dataset.from = Math.round(this.from);
    this.host.dataset.to = Math.round(this.to);
  }

  drawAxis() {
    const c = this.c, span = this.to - this.from;
    let step = 10 ** Math.floor(Math.log10(span / this.plot * 90));
    for (const m of [1, 2, 5, 10]) if (step * m / span * this.plot >= 90) { step *= m; break; }
    c.lineWidth = 1;
    c.textAlign = "left";
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step) {
      const x = Math.round(this.x(at)) + 0.5;
      c.strokeStyle = this.color("line");
      c.beginPath();
      c.moveTo(x, 4);
      c.lineTo(x, this.overview - 6);
      c.stroke();
      c.fillStyle = this.color("calm");
      const text = step >= 1e6 ? `${Math.round(at / 1e6)} s` : step >= 1000 ? `${(at / 1e6).toFixed(Math.max(0, 6 - Math.floor(Math.log10(step))))} s` : `${(at / 1000).toFixed(1)} ms`;
      c.fillText(text, x + 4, 11);
    }
    // Steps, by name.
    for (const s of this.data.steps) {
      const a = Math.max(this.x(s.from), Timeline.LEFT), b = Math.min(this.x(s.to), Timeline.LEFT + this.plot);
      if (b - a < 2) continue;
      c.fillStyle = this.color("soft");
      c.fillRect(a + 1, 21, b - a - 2, 17);
      c.fillStyle = this.color("axis");
      c.fillRect(a, 21, 1, 17);
      this.label(s.name, a + 6, 30, b - a - 10, this.color("fg"));
    }
  }

  label(text, x, y, room, colour) {
    const c = this.c;
    if (room < 14) return;
    c.fillStyle = colour;
    c.textAlign = "left";
    let shown = text;
    while (shown.length > 1 && c.measureText(shown + (shown === text ? "" : "…")).width > room) shown = shown.slice(0, -1);
    if (shown.length > 1 || shown === text) c.fillText(shown === text ? text : shown + "…", x, y);
  }

  // Each version is a band: dark from the call to the acknowledgement, lighter
  // until the controller has seen it, lightest until it is in force, which each
  // proxy's lanes tell for themselves; then its number.
  drawVersions() {
    const c = this.c, writes = this.data.writes, colour = this.color("version");
    const band = (from, to, alpha, y, height) => {
      const a = this.x(from), b = Math.max(this.x(to), a + 1.5);
      if (b < Timeline.LEFT || a > Timeline.LEFT + this.plot) return;
      c.globalAlpha = alpha;
      c.fillStyle = colour;
      c.fillRect(a, y, b - a, height);
      c.globalAlpha = 1;
    };
    let settled = 0;
    for (let i = 0; i <= writes.length; i++) {
      const next = i < writes.length ? writes[i].call : this.data.end;
      if (next > settled) {
        const a = Math.max(this.x(settled), Timeline.LEFT), b = Math.min(this.x(next), Timeline.LEFT + this.plot);
        if (b - a > 1) {
          if (i % 2) {
            c.fillStyle = this.color("version-soft");
            c.fillRect(a, 42, b - a, this.overview - 52);
          }
          const write = writes[i - 1];
          this.label(write ? `v${i} ${write.object} ${write.verb}` : "v0 as it was", a + 6, 51, b - a - 10, colour);
        }
      }
      if (i === writes.length) break;
      const w = writes[i];
      settled = this.done(w);
      band(w.call, w.ack, 1, 42, 18);
      if (w.observed > w.ack) band(w.ack, w.observed, 0.55, 42, 18);
      band(Math.max(w.ack, w.observed || 0), settled, 0.28, 42, 18);
      this.lanes.forEach((lane, l) => {
        const y = this.head + l * Timeline.ROW, rows = Timeline.ROW;
        const own = (w.inForce || []).filter(f => f.proxy === lane.proxy).map(f => f.at);
        const end = own.length ? Math.max(...own) : settled;
        band(w.call, w.ack, 0.45, y, rows);
        if (w.observed > w.ack) band(w.ack, w.observed, 0.28, y, rows);
        band(Math.max(w.ack, w.observed || 0), end, 0.15, y, rows);
        const x = Math.round(this.x(end)) + 0.5;
        c.strokeStyle = colour;
        c.lineWidth = 1;
        c.beginPath();
        c.moveTo(x, y + 2);
        c.lineTo(x, y + rows - 2);
        c.stroke();
      });
    }
  }

  hatch(colour, back, gap) {
    const tile = document.createElement("canvas");
    const ratio = devicePixelRatio || 1;
    const size = Math.round(gap * ratio);
    tile.width = tile.height = size;
    const t = tile.getContext("2d");
    if (back) {
      t.fillStyle = back;
      t.fillRect(0, 0, size, size);
    }
    t.strokeStyle = colour;
    t.lineWidth = Math.max(1, ratio);
    t.beginPath();
    for (const d of [-size, 0, size]) {
      t.moveTo(d, size);
      t.lineTo(d + size, 0);
    }
    t.stroke();
    const pattern = this.c.createPattern(tile, "repeat");
    pattern.setTransform(new DOMMatrix().scale(1 / ratio));
    return pattern;
  }

  drawFaults(faults) {
    const c = this.c;
    for (const f of faults) {
      const a = this.x(f.from), b = this.x(f.to || this.data.end);
      c.fillStyle = this.hatch(this.color("fault"), null, 7);
      c.fillRect(a, 62, b - a, 14);
      c.strokeStyle = this.color("fault");
      c.strokeRect(a + 0.5, 62.5, b - a - 1, 13);
      const text = `${f.kind}: ${f.name}`, wide = c.measureText(text).width + 8, at = Math.max(a, Timeline.LEFT);
      if (b - at > wide) {
        c.fillStyle = this.color("bg");
        c.fillRect(at + 4, 63, wide, 12);
        this.label(text, at + 8, 69.5, wide, this.color("fg"));
      }
      this.lanes.forEach((lane, l) => {
        if (f.proxies && f.proxies.length && !f.proxies.includes(lane.proxy)) return;
        c.globalAlpha = 0.3;
        c.fillStyle = this.hatch(this.color("fault"), null, 7);
        c.fillRect(a, this.head + l * Timeline.ROW + 1, b - a, Timeline.ROW - 2);
        c.globalAlpha = 1;
      });
    }
  }

  // within are the first and last place of a lane that can be seen.
  within(lane, from = this.from, to = this.to) {
    const find = at => {
      let low = 0, high = lane.places.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        this.start[lane.places[middle]] < at ? low = middle + 1 : high = middle;
      }
      return low;
    };
    return [find(from), find(to)];
  }

  // half is where a class of answers is drawn within a lane: offset and height.
  static half(kind) { return kind === 0 ? [4, 12] : kind === 1 ? [18, 12] : [14, 6]; }

  drawRequests() {
    const c = this.c, r = this.data.requests;
    const colours = [this.color("allowed"), this.color("denied"), this.color("unclear")];
    const ranges = this.lanes.map(lane => this.within(lane, this.from - (this.to - this.from) / 50));
    const many = ranges.reduce((sum, [a, b]) => sum + b - a, 0);
    const scale = this.plot / (this.to - this.from);
    let marks = 0;
    const together = many > Timeline.MOST;
    const bin = together ? Math.max(2, Math.ceil(this.plot * this.lanes.length * 3 / Timeline.MOST)) : 0;
    this.lanes.forEach((lane, l) => {
      const y = this.head + l * Timeline.ROW;
      c.strokeStyle = this.color("line");
      c.lineWidth = 1;
      c.beginPath();
      c.moveTo(Timeline.LEFT, y + Timeline.ROW - 0.5);
      c.lineTo(Timeline.LEFT + this.plot, y + Timeline.ROW - 0.5);
      c.stroke();
      if (lane.hold) marks += this.drawHold(lane.hold, y);
      const [first, last] = ranges[l];
      if (together) {
        const bins = Math.ceil(this.plot / bin) + 1, counts = new Float64Array(bins * 3);
        for (let i = first; i < last; i++) {
          const place = lane.places[i];
          const at = Math.floor((this.start[place] - this.from) * scale / bin);
          if (at >= 0 && at < bins) counts[at * 3 + r.c[place]]++;
        }
        for (let at = 0; at < bins; at++) {
          const sum = counts[at * 3] + counts[at * 3 + 1] + counts[at * 3 + 2];
          for (let kind = 0; kind < 3; kind++) {
            if (!counts[at * 3 + kind]) continue;
            const [top, tall] = Timeline.half(kind);
            c.globalAlpha = 0.3 + 0.7 * counts[at * 3 + kind] / sum;
            c.fillStyle = colours[kind];
            c.fillRect(Timeline.LEFT + at * bin, y + top, bin - 0.3, tall);
            marks++;
          }
        }
        c.globalAlpha = 1;
      } else for (let i = first; i < last; i++) {
        const place = lane.places[i], kind = r.c[place];
        const [top, tall] = Timeline.half(kind);
        const a = this.x(this.start[place]), wide = r.d[place] * scale;
        c.fillStyle = colours[kind];
        c.fillRect(a, y + top, Math.min(Math.max(wide - 0.5, 1.3), 3), tall);
        marks++;
        if (wide > 3 && many * 2 <= Timeline.MOST) { // until its answer came
          c.globalAlpha = 0.22;
          c.fillRect(a + 3, y + top + tall / 2 - 2, wide - 3, 4);
          c.globalAlpha = 1;
          marks++;
        }
      }
    });
    // What nothing explains is drawn by itself, over all else.
    const wrong = this.color("wrong"), hatch = this.hatch(wrong, this.color("bg"), 4);
    const laneOf = new Map(this.lanes.map((lane, l) => [lane.stream + " " + lane.proxy, l]));
    let shown = 0;
    for (const place of this.wrong.keys()) {
      if (this.start[place] > this.to || this.start[place] + r.d[place] < this.from || shown++ >= 1000) continue;
      const l = laneOf.get(r.s[place] + " " + r.p[place]);
      const y = this.head + l * Timeline.ROW, [top, tall] = Timeline.half(r.c[place]);
      const a = this.x(this.start[place]), wide = Math.max(r.d[place] * scale, 5);
      c.fillStyle = hatch;
      c.fillRect(a, y + top, wide, tall);
      c.strokeStyle = wrong;
      c.lineWidth = 1.5;
      c.strokeRect(a, y + top, wide, tall);
      c.fillStyle = wrong;
      c.beginPath();
      c.moveTo(a + wide / 2 - 4, y + (r.c[place] === 1 ? 8 : 33));
      c.lineTo(a + wide / 2 + 4, y + (r.c[place] === 1 ? 8 : 33));
      c.lineTo(a + wide / 2, y + (r.c[place] === 1 ? 15 : 26));
      c.fill();
      marks++;
    }
    if (this.chosen >= 0) {
      const l = laneOf.get(r.s[this.chosen] + " " + r.p[this.chosen]), y = this.head + l * Timeline.ROW;
      const a = this.x(this.start[this.chosen]), wide = Math.max(r.d[this.chosen] * scale, 2);
      c.strokeStyle = this.color("fg");
      c.lineWidth = 2;
      c.strokeRect(a - 2.5, y + 2, wide + 5, Timeline.ROW - 4);
    }
    const shownText = together ? `${many.toLocaleString("en")} requests, drawn together; zoom in to tell them apart` : `${many.toLocaleString("en")} requests`;
    if (this.status.textContent !== shownText) this.status.textContent = shownText;
    return marks;
  }

  drawHold(hold, y) {
    const c = this.c, a = this.x(hold.opened), b = this.x(hold.closed || this.data.end);
    c.fillStyle = this.color("allowed");
    c.globalAlpha = 0.75;
    c.fillRect(a, y + 14, b - a, 6);
    c.globalAlpha = 1;
    c.fillRect(a, y + 8, 2, 18);
    if (hold.closed) {
      c.fillStyle = this.color("denied");
      c.fillRect(b - 1, y + 5, 3, 24);
    }
    return 2;
  }

  drawNames() {
    const c = this.c;
    c.fillStyle = this.color("bg");
    c.fillRect(0, 20, Timeline.LEFT, this.overview - 20);
    this.label("steps", 12, 30, 160, this.color("calm"));
    this.label("policy", 12, 51, 160, this.color("calm"));
    if ((this.data.faults || []).length) this.label("faults", 12, 69, 160, this.color("calm"));
    this.lanes.forEach((lane, l) => {
      const y = this.head + l * Timeline.ROW;
      if (l === this.lane && document.activeElement === this.canvas) {
        c.fillStyle = this.color("focus");
        c.fillRect(0, y + 2, 4, Timeline.ROW - 4);
      }
      this.label(lane.title, 12, y + 11, Timeline.LEFT - 20, this.color("fg"));
      c.font = c.font.replace("12px", "11px");
      this.label(lane.under, 12, y + 25, Timeline.LEFT - 20, this.color("calm"));
      c.font = c.font.replace("11px", "12px");
    });
  }

  drawOverview() {
    const c = this.c, y = this.overview, whole = Math.max(this.data.end, 1000);
    const x = us => Timeline.LEFT + us / whole * this.plot;
    c.fillStyle = this.color("soft");
    c.fillRect(Timeline.LEFT, y, this.plot, 18);
    c.fillStyle = this.color("version");
    for (const w of this.data.writes) c.fillRect(x(w.call), y, Math.max(x(this.done(w)) - x(w.call), 1.5), 18);
    c.fillStyle = this.color("wrong");
    for (const f of this.data.findings || []) c.fillRect(x(f.at) - 1, y + 4, 2.5, 10);
    c.strokeStyle = this.color("fg");
    c.lineWidth = 1.5;
    c.strokeRect(x(this.from), y - 0.5, Math.max(x(this.to) - x(this.from), 3), 19);
    this.label("all of it", 12, y + 9, 160, this.color("calm"));
  }

  pick(x, y) {
    const l = Math.floor((y - this.head) / Timeline.ROW);
    const lane = this.lanes[l];
    if (!lane) return;
    this.lane = l;
    const at = this.timeAt(x), r = this.data.requests, [first, last] = this.within(lane, at - (this.to - this.from) / 20, at + (this.to - this.from) / 20);
    const inner = y - this.head - l * Timeline.ROW;
    let best = -1, distance = Infinity;
    for (let i = first; i < last; i++) {
      const place = lane.places[i], [top, tall] = Timeline.half(r.c[place]);
      let d = Math.max(this.start[place] - at, at - this.start[place] - r.d[place], 0) / (this.to - this.from) * this.plot;
      if (inner < top - 3 || inner > top + tall + 3) d += 6;
      if (this.wrong.has(place)) d -= 5; // what is wrong is what people aim at
      if (d < distance) [best, distance] = [place, d];
    }
    best >= 0 ? this.choose(best, false) : this.draw();
  }

  key(e) {
    if (e.altKey || e.ctrlKey || e.metaKey) return;
    const lane = this.lanes[this.lane];
    const walk = by => {
      if (!lane || !lane.places.length) return this.pan(by * (this.to - this.from) / 10);
      let at = this.chosen >= 0 ? lane.places.indexOf(this.chosen) : -1;
      if (at < 0) {
        const near = this.chosen >= 0 ? this.start[this.chosen] : this.from;
        at = this.within(lane, near)[0] - (by > 0 ? 1 : 0);
      }
      this.choose(lane.places[Math.min(Math.max(at + by, 0), lane.places.length - 1)], true);
    };
    const move = by => {
      this.lane = Math.min(Math.max(this.lane + by, 0), this.lanes.length - 1);
      const next = this.lanes[this.lane];
      if (this.chosen >= 0 && next.places.length) {
        const at = Math.min(this.within(next, this.start[this.chosen])[0], next.places.length - 1);
        this.choose(next.places[at], true);
      } else this.draw();
    };
    const keys = { ArrowRight: () => walk(1), ArrowLeft: () => walk(-1), ArrowUp: () => move(-1), ArrowDown: () => move(1), PageDown: () => this.pan((this.to - this.from) * 0.8),
      PageUp: () => this.pan((this.from - this.to) * 0.8), "+": () => this.zoom(0.5, this.chosen >= 0 ? this.start[this.chosen] : undefined), "=": () => this.zoom(0.5),
      "-": () => this.zoom(2), Home: () => this.view(0, this.data.end), "0": () => this.view(0, this.data.end), "]": () => this.finding(1), "[": () => this.finding(-1),
      "n": () => this.change(1), "p": () => this.change(-1), Escape: () => this.close() };
    if (!keys[e.key]) return;
    e.preventDefault();
    keys[e.key]();
  }

  close() {
    this.chosen = -1;
    this.card.hidden = true;
    this.draw();
  }

  // go shows the request that an address names: by its ID, or rN by its place.
  go(name) {
    let place = (this.data.requests.i || []).indexOf(name);
    if (place < 0 && /^r\d+$/.test(name)) place = Number(name.slice(1));
    if (place >= 0 && place < this.n) this.choose(place, true);
  }

  choose(place, follow) {
    this.chosen = place;
    const r = this.data.requests;
    const l = this.lanes.findIndex(lane => lane.stream === r.s[place] && lane.proxy === r.p[place]);
    if (l >= 0) this.lane = l;
    const at = this.start[place];
    if (follow && (at < this.from || at > this.to || (this.to - this.from) > 4e6)) this.view(at - 500000, at + 500000);
    else this.draw();
    const found = this.wrong.get(place);
    if (found !== undefined) this.current = found;
    this.tell(place, found === undefined ? null : this.data.findings[found]);
  }

  // tell fills the card: what was asked and answered, and what the rules say under
  // every version that can have decided it.
  tell(place, finding) {
    const el = Timeline.element, d = this.data, r = d.requests, time = Timeline.time;
    const facts = el("dl", { className: "facts" });
    const fact = (name, text) => { if (text) facts.append(el("dt", { textContent: name }), el("dd", { textContent: text })); };
    // Asked here, since the browser tells of a toggle only some time after it.
    const logs = this.card.querySelector(".logs");
    if (logs) this.showLogs = logs.open;
    this.card.replaceChildren();
    this.card.hidden = false;
    this.card.classList.toggle("wrong", finding !== null);
    if (finding) {
      this.card.append(el("h3", {}, el("span", { className: "failed", textContent: `✗ ${finding.harm || finding.kind}` }), ` ${finding.text}`));
    }
    if (place === null) return;
    const s = d.streams[r.s[place]], begin = this.start[place], end = begin + r.d[place];
    const id = (r.i || [])[place] || `r${place}`;
    if (!finding) this.card.append(el("h3", { textContent: `${s.name}: ${d.texts[r.o[place]]}` }));
    fact("request", `${id}: ${s.client} → ${s.target}, ${s.protocol}, ${s.connection} connection`);
    fact("sent", `at ${time(begin)}, answered after ${time(r.d[place])}`);
    fact("answer", d.texts[r.o[place]]);
    fact("proxy", r.p[place] < 0 ? "unknown" : d.proxies[r.p[place]].pod);
    fact("its record", d.texts[r.r[place]]);
    fact("policy in force", d.texts[r.h[place]]);
    if (r.n[place] >= 0) fact("application's log", r.n[place] === 1 ? "delivered once" : r.n[place] === 0 ? "not delivered" : `delivered ${r.n[place]} times`);
    const link = `#${this.host.closest("section").id}/${id}`;
    this.card.append(facts);
    const said = (d.expected || []).filter(x => x.s === r.s[place] && x.p === r.p[place]);
    const written = d.writes.filter(w => w.call <= end).length;
    let least = 0;
    d.writes.forEach((w, i) => { if (w.ack + d.budget < begin) least = i + 1; });
    const possible = said.filter(x => x.v >= Math.max(least - 1, 0) && x.v <= written);
    if (possible.length) {
      const body = el("tbody");
      for (const x of possible) {
        const w = d.writes[x.v - 1];
        body.append(el("tr", {}, el("td", { textContent: `v${x.v}` }), el("td", { textContent: w ? `${w.object} ${w.verb}` : "as it was" }),
          el("td", { textContent: d.texts[x.o] + (x.v < least ? " (overdue)" : "") }), el("td", { className: "chain", textContent: d.texts[x.w] })));
      }
      this.card.append(el("div", { className: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, ...["policy", "made by", "the rules say", "because"].map(t => el("th", { scope: "col", textContent: t })))), body)));
    }
    this.card.append(this.logsOf(place));
    this.card.append(el("p", {}, el("a", { href: link, textContent: "link to this request" })));
    const target = new URL(link, location.href).href;
    if (location.href !== target) try { history.replaceState(null, "", link); } catch { /* a page from disk may not everywhere */ }
  }

  // logsOf are the lines that the proxy that answered and the policy controller
  // wrote around a request, or why there are none.
  logsOf(place) {
    const el = Timeline.element, d = this.data, proxy = d.requests.p[place];
    const part = el("details", { className: "logs", open: this.showLogs }, el("summary", { textContent: "log lines around it" }));
    part.setAttribute("aria-live", "off"); // there are many, for those who ask for them
    const say = text => part.append(el("p", { textContent: text }));
    if (d.noLogs || !d.logs) {
      say(d.noLogs || "No log lines of this scenario were kept.");
      return part;
    }
    const own = this.logs.filter(log => proxy >= 0 && log.p === proxy), controllers = this.logs.filter(log => log.p < 0);
    if (proxy < 0) say("No lines of a proxy: which one answered is not known.");
    else if (!own.length) say(`No log of ${d.proxies[proxy].pod} was kept. Logs are taken when a scenario ends; a pod that is gone by then leaves none.`);
    for (const log of own) part.append(this.excerpt("proxy", log, place));
    for (const log of controllers) part.append(this.excerpt("policy controller", log, place));
    if (!controllers.length) say("No log of the policy controller was kept.");
    return part;
  }

  // excerpt are the lines of a log while a request was under way, marked, and some
  // before and after them.
  excerpt(who, log, place) {
    const el = Timeline.element, d = this.data, around = 5, most = 40;
    const begin = this.start[place], end = begin + d.requests.d[place], slack = d.slack || 0;
    const first = log.times.findIndex(at => at >= begin - slack), n = log.times.length;
    const from = first < 0 ? n : first;
    let to = from;
    while (to < n && log.times[to] <= end + slack) to++;
    const part = el("div", {}, el("p", {}, el("b", { textContent: `${who} ${log.pod}` }), el("small", {}, " all of it: ", el("code", { textContent: log.file }))));
    if (!n) {
      part.append(el("p", { textContent: "It has no line from the time of this scenario." }));
      return part;
    }
    const body = el("tbody"), gap = text => body.append(el("tr", {}, el("td", { colSpan: 3, className: "gap", textContent: text })));
    if (!from && !to) gap("The log that was kept begins after this request.");
    for (let i = Math.max(from - around, 0); i < Math.min(to + around, n); i++) {
      if (to - from > most && i === from + most / 2) {
        let rest = 0;
        for (const last = i + to - from - most; i < last; i++) rest += Math.max(-log.x[i], 1);
        gap(`${rest} more lines while the request was under way are not shown here`);
      }
      if (log.x[i] < 0) {
        gap(`${-log.x[i]} lines are left out here, to keep this page small`);
        continue;
      }
      const by = log.times[i] - begin, text = d.texts[log.x[i]];
      body.append(el("tr", { className: i >= from && i < to ? "during" : "" }, el("td", { className: "n", textContent: (by < 0 ? "−" : "+") + Timeline.time(Math.abs(by)) }),
        el("td", { className: "n", textContent: new Date(Date.parse(d.began) + log.times[i] / 1000).toISOString().slice(11, 23) }), el("td", {}, el("code", { textContent: text }))));
    }
    const head = el("tr", {}, ...["from its sending", "time (UTC)", "line"].map(t => el("th", { scope: "col", textContent: t })));
    const table = el("table", {}, el("thead", {}, head), body);
    table.setAttribute("aria-label", `log lines of the ${who} ${log.pod}`);
    part.append(table);
    return part;
  }
}
