// Predict first: draw on the empty axes, commit, and see what was measured. The axes and the answer are in the page as
// JSON (signalprop/predict.py); where this script does not run, the empty axes stand there as a picture.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const STEPS = 100; // of a value's axis; an arrow key moves by 2, Page Up by 10

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const draw = (parent, name, attributes = {}, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const clamp = (v) => Math.min(1, Math.max(0, v));
  const superscript = (n) => String(n).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"["0123456789".indexOf(c)] ?? "⁻");

  // Where a value lies on an axis, from 0 to 1, and back.
  const scaled = (axis, v) => (axis.log ? Math.log10(Math.max(v, 1e-300)) : v);
  const share = (axis, v) => {
    const [low, high] = axis.limits.map((end) => scaled(axis, end));
    return (scaled(axis, v) - low) / (high - low);
  };
  const value = (axis, s) => {
    const [low, high] = axis.limits.map((end) => scaled(axis, end));
    return axis.log ? 10 ** (low + s * (high - low)) : low + s * (high - low);
  };
  const words = (axis, v) => {
    if (axis.log && (v < 1e-3 || v >= 1e4)) return `10${superscript(Math.round(Math.log10(v)))}`;
    return String(Number(v.toPrecision(2)));
  };
  const place = (question, panel, at) => {
    const axis = panel[question.along], tick = axis.ticks.find(([v]) => v === at);
    return question.bars && tick ? tick[1] : `${axis.label} ${at}`;
  };

  class Card {
    constructor(question, answer, figure) {
      Object.assign(this, {question, answer, figure, active: 0, shown: false});
      this.clear();
      const title = question.panels.length > 1 ? "Your prediction" : `Your prediction: ${question.panels[0].title}`;
      this.box = make("div", {class: "sp-predict", role: "group", "aria-label": title});
      this.choice = make("p", {class: "sp-predict-lines"});
      this.plots = question.panels.map(() => make("div"));
      const heads = question.panels.map(({title, y}) => make("p", {class: "sp-predict-title"}, make("strong", {}, title), y.label ? ` (upwards: ${y.label})` : ""));
      this.commit = make("button", {type: "button"}, "Commit");
      this.show = make("button", {type: "button"}, "Show me");
      this.again = make("button", {type: "button"}, "Again");
      this.verdict = make("div", {class: "sp-predict-verdict", "aria-live": "polite"});
      const how = make("p", {class: "sp-predict-how"}, "Draw with a finger or the mouse, or move to a point with Tab and set it with the arrow keys.");
      this.box.append(how, this.choice, ...heads.flatMap((head, i) => [head, this.plots[i]]), make("p", {}, this.commit, " ", this.show, " ", this.again), this.verdict);
      this.commit.addEventListener("click", () => this.reveal(true));
      this.show.addEventListener("click", () => this.reveal(false));
      this.again.addEventListener("click", () => {
        this.clear();
        this.shown = false;
        this.verdict.replaceChildren();
        this.render();
        this.commit.focus();
      });
      if (question.lines.length > 1) {
        question.lines.forEach((name, i) => {
          const radio = make("input", {type: "radio", name: figure.id, value: i});
          radio.checked = i === 0;
          radio.addEventListener("change", () => ((this.active = i), this.render()));
          const swatch = make("span", {class: "sp-predict-swatch", style: `background: ${question.colors[i]}`});
          this.choice.append(make("label", {}, radio, swatch, ` ${name} `));
        });
      } else this.choice.remove();
      figure.classList.add("sp-predicted");
      figure.prepend(this.box);
      new ResizeObserver(() => this.render()).observe(this.box);
    }

    clear() {
      const {panels, lines, at} = this.question;
      this.drawn = panels.map(() => lines.map(() => at.map(() => null)));
    }

    // A point of the axes (position, value; both from 0 to 1) in pixels, and back.
    pixel(position, v) {
      const [x, y] = this.question.along === "x" ? [position, v] : [v, position];
      const {left, top, width, height} = this.area;
      return [left + x * width, top + (1 - y) * height];
    }
    unit(px, py) {
      const {left, top, width, height} = this.area;
      const [x, y] = [(px - left) / width, 1 - (py - top) / height];
      return this.question.along === "x" ? [x, y] : [y, x];
    }

    axes(panel) {
      const {along, bars} = this.question;
      return along === "x" ? [panel.x, panel.y] : [panel.y, panel.x];
    }

    render() {
      const width = Math.floor(this.box.clientWidth) - 2;
      if (width < 100) return;
      const wide = Math.min(width, 640), height = Math.round(Math.max(230, wide * 0.5));
      const names = this.question.panels[0].y.ticks.map(([, text]) => text.length);
      const left = 14 + 7 * Math.max(...names);
      this.area = {left, top: 14, width: wide - left - 14, height: height - 62};
      this.question.panels.forEach((panel, i) => this.plot(panel, i, wide, height));
      this.commit.hidden = this.show.hidden = this.shown;
      this.again.hidden = !this.shown;
    }

    plot(panel, number, width, height) {
      const {question, area} = this;
      const focused = this.plots[number].contains(document.activeElement) ? document.activeElement.dataset.index : null;
      const svg = draw(make("div"), "svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": panel.title});
      const bottom = area.top + area.height, right = area.left + area.width;
      let last = -Infinity;
      for (const [v, text] of panel.x.ticks) {
        const x = area.left + share(panel.x, v) * area.width, room = 3.6 * text.length + 3;
        draw(svg, "line", {x1: x, x2: x, y1: area.top, y2: bottom, class: "grid"});
        if (x - room < last) continue; // it would touch its neighbour
        last = x + room;
        draw(svg, "text", {x, y: bottom + 17, "text-anchor": "middle"}, text);
      }
      for (const [v, text] of panel.y.ticks) {
        const y = bottom - share(panel.y, v) * area.height;
        draw(svg, "line", {x1: area.left, x2: right, y1: y, y2: y, class: "grid"});
        draw(svg, "text", {x: area.left - 6, y: y + 4, "text-anchor": "end"}, text);
      }
      for (const v of panel.level) {
        const y = bottom - share(panel.y, v) * area.height;
        draw(svg, "line", {x1: area.left, x2: right, y1: y, y2: y, class: "level"});
      }
      for (const v of panel.upright) {
        const x = area.left + share(panel.x, v) * area.width;
        draw(svg, "line", {x1: x, x2: x, y1: area.top, y2: bottom, class: "level"});
      }
      draw(svg, "text", {x: (area.left + right) / 2, y: bottom + 40, "text-anchor": "middle"}, panel.x.label);
      if (this.shown) this.measured(svg, panel, number);
      question.lines.forEach((name, line) => this.curve(svg, panel, number, line));
      if (!this.shown) this.listen(svg, panel, number);
      this.plots[number].replaceChildren(svg);
      if (focused) svg.querySelector(`[data-index="${focused}"]`)?.focus();
    }

    curve(svg, panel, number, line) {
      const {question} = this, [along, across] = this.axes(panel), color = question.colors[line];
      const values = this.drawn[number][line], active = line === this.active && !this.shown;
      const points = question.at.map((at, i) => (values[i] === null ? null : this.pixel(share(along, at), values[i])));
      if (question.bars) {
        question.at.forEach((at, i) => {
          if (!points[i]) return;
          const [x0, y0] = this.pixel(share(along, at), 0);
          draw(svg, "line", {x1: x0, y1: y0, x2: points[i][0], y2: points[i][1], stroke: color, class: "bar"});
        });
      } else {
        const path = points.filter(Boolean).map(([x, y]) => `${x},${y}`).join(" ");
        draw(svg, "polyline", {points: path, stroke: color, class: "yours"});
      }
      question.at.forEach((at, i) => {
        if (!active) {
          if (points[i]) draw(svg, "circle", {cx: points[i][0], cy: points[i][1], r: 4, fill: "white", stroke: color, "stroke-width": 2});
          return;
        }
        const v = values[i] ?? 0.5, [cx, cy] = points[i] ?? this.pixel(share(along, at), v);
        const reading = values[i] === null ? "not set" : words(across, value(across, v));
        const name = `${question.lines.length > 1 || !question.bars ? question.lines[line] + ", " : ""}${place(question, panel, at)}`;
        const handle = draw(svg, "g", {
          role: "slider", tabindex: 0, "aria-label": name, "aria-valuemin": 0, "aria-valuemax": STEPS,
          "aria-valuenow": Math.round(v * STEPS), "aria-valuetext": reading, "aria-orientation": question.along === "x" ? "vertical" : "horizontal",
          "data-index": `${line}-${i}`, class: values[i] === null ? "handle unset" : "handle",
        });
        draw(handle, "circle", {cx, cy, r: 13, fill: "transparent"});
        draw(handle, "circle", {cx, cy, r: 6, fill: values[i] === null ? "white" : color, stroke: color, "stroke-width": 2});
        handle.addEventListener("keydown", (event) => {
          const by = {ArrowUp: 2, ArrowRight: 2, ArrowDown: -2, ArrowLeft: -2, PageUp: 10, PageDown: -10}[event.key];
          const to = {Home: 0, End: 1}[event.key] ?? (by === undefined ? null : clamp(v + by / STEPS));
          if (to === null) return;
          event.preventDefault();
          values[i] = to;
          this.render();
        });
      });
    }

    listen(svg, panel, number) {
      const {question} = this, [along] = this.axes(panel);
      const shares = question.at.map((at) => share(along, at));
      let before = null;
      const set = (event) => {
        const box = svg.getBoundingClientRect();
        const [position, raw] = this.unit(event.clientX - box.left, event.clientY - box.top), v = clamp(raw);
        const values = this.drawn[number][this.active];
        const distances = shares.map((s) => Math.abs(s - position));
        const nearest = distances.indexOf(Math.min(...distances));
        values[nearest] = v;
        // A quick stroke passes over points between two events.
        if (before !== null && !question.bars) {
          shares.forEach((s, i) => {
            const t = (s - before[0]) / (position - before[0]);
            if (t > 0 && t < 1) values[i] = clamp(before[1] + t * (v - before[1]));
          });
        }
        before = [position, v];
      };
      svg.addEventListener("pointerdown", (event) => {
        before = null;
        set(event);
        const move = (moved) => (set(moved), this.render());
        const end = () => {
          removeEventListener("pointermove", move);
          for (const name of ["pointerup", "pointercancel"]) removeEventListener(name, end);
        };
        addEventListener("pointermove", move);
        for (const name of ["pointerup", "pointercancel"]) addEventListener(name, end);
        event.preventDefault();
        this.render();
      });
    }

    measured(svg, panel, number) {
      const {question} = this, [along, across] = this.axes(panel);
      question.lines.forEach((name, line) => {
        const found = this.answer.panels[number][name], color = question.colors[line];
        const at = (curve) => found.at.map((p, i) => this.pixel(share(along, p), clamp(share(across, curve[i]))));
        const mid = at(found.mid), low = at(found.low ?? found.mid), high = at(found.high ?? found.mid);
        if (question.bars) {
          mid.forEach(([x, y], i) => {
            draw(svg, "line", {x1: low[i][0], y1: low[i][1], x2: high[i][0], y2: high[i][1], stroke: "black", "stroke-width": 2});
            draw(svg, "rect", {x: x - 5, y: y - 5, width: 10, height: 10, fill: "black"});
          });
          return;
        }
        const points = (list) => list.map(([x, y]) => `${x},${y}`).join(" ");
        draw(svg, "polygon", {points: points([...low, ...high.reverse()]), fill: color, opacity: 0.25});
        draw(svg, "polyline", {points: points(mid), stroke: color, class: "measured"});
      });
    }

    // How far each drawn line is from what was measured: half of its points are nearer than that.
    distances() {
      const {question} = this;
      return question.panels.flatMap((panel, number) => question.lines.map((name, line) => {
        const [along, across] = this.axes(panel), found = this.answer.panels[number][name];
        const places = found.at.map((p) => share(along, p));
        const order = places.map((_, i) => i).sort((a, b) => places[a] - places[b]);
        const between = (curve, s) => {
          const heights = curve.map((v) => clamp(share(across, v)));
          const after = order.findIndex((i) => places[i] >= s - 1e-9);
          if (after <= 0) return heights[order[after === 0 ? 0 : order.length - 1]];
          const [a, b] = [order[after - 1], order[after]], t = (s - places[a]) / (places[b] - places[a]);
          return heights[a] + t * (heights[b] - heights[a]);
        };
        let inside = 0;
        const off = [];
        question.at.forEach((p, i) => {
          const v = this.drawn[number][line][i];
          if (v === null) return;
          const s = share(along, p);
          off.push(Math.abs(v - between(found.mid, s)));
          if (found.low && v >= between(found.low, s) - 0.02 && v <= between(found.high, s) + 0.02) inside += 1;
        });
        off.sort((a, b) => a - b);
        const half = off.length ? (off[Math.floor((off.length - 1) / 2)] + off[Math.ceil((off.length - 1) / 2)]) / 2 : null;
        const title = question.panels.length > 1 ? `${panel.title}, ` : "";
        return {name: title + name, points: off.length, inside, half, across, seeds: found.seeds};
      }));
    }

    reveal(committed) {
      const found = this.distances();
      if (committed && !found.some((each) => each.points)) {
        this.verdict.replaceChildren(make("p", {}, "Set at least one point first, or choose “Show me”."));
        return;
      }
      this.shown = true;
      const lines = found.filter((each) => each.points).map(({name, points, inside, half, across, seeds}) => {
        const [low, high] = across.limits.map((end) => scaled(across, end)), far = half * Math.abs(high - low);
        const distance = across.log ? `a factor of ${words(across, 10 ** far)}` : Number(far.toPrecision(2));
        const size = points === 1 ? "your point is off by" : "half of your points are off by at most";
        const band = seeds ? `; ${inside} of ${points} inside the band of ${seeds} nets` : "";
        return make("li", {}, `${name}: ${size} ${distance}${band}.`);
      });
      const key = this.question.bars ? "Black squares: measured" : "Solid lines: measured";
      const bands = found.some((each) => each.seeds) ? `, with the middle 90 % of nets` : "";
      this.verdict.replaceChildren(make("p", {}, `${key}${bands}. ${lines.length ? "Dots: yours." : ""}`), make("ul", {}, ...lines));
      this.render();
      this.again.focus();
    }
  }

  for (const script of document.querySelectorAll("script.sp-question")) {
    const name = script.dataset.figure;
    const figure = document.getElementById(name), answer = document.querySelector(`script.sp-answer[data-figure="${name}"]`);
    if (figure && answer) new Card(JSON.parse(script.textContent), JSON.parse(answer.textContent), figure);
  }
})();
