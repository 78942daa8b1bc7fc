// The playground: controls, three charts, a sentence and a table. An anywidget module; it needs no kernel.
// signalprop/playground.py joins it with propagation.js, without the line below.
import {draw, propagate, readSettings, theory} from "./propagation.js";

const CHARTS = [
  {quantity: "gradient", title: "Gradient norm", unit: "‖∂ℒ/∂x_l‖ / ‖∂ℒ/∂x_L‖", log: true},
  {quantity: "variance", title: "Variance of z", unit: "mean of z²", log: true},
  {quantity: "saturated", title: "Saturated units", unit: "share", log: false},
];
const NETS = 10; // that are shown behind the last one

// --- small helpers ---------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const SUPERSCRIPTS = {"-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹"};
const power = (exponent) => "10" + [...String(exponent)].map((digit) => SUPERSCRIPTS[digit]).join("");

// A number in words: 0.0123, 45.7, or a power of ten.
function say(value) {
  if (!Number.isFinite(value)) return value > 0 ? "more than can be counted" : "no number";
  if (value === 0) return "0";
  const exponent = Math.floor(Math.log10(value));
  if (exponent >= -3 && exponent < 4) return String(Number(value.toPrecision(3)));
  return `${(value / 10 ** exponent).toFixed(1)}·${power(exponent)}`;
}

const percent = (share) => `${share > 0 && share < 0.01 ? "under 1" : Math.round(100 * share)}\u00a0%`;

// --- the charts ------------------------------------------------------------------------------------------

const SIZE = {width: 330, height: 230, left: 56, right: 12, top: 30, bottom: 40};

// Decades that hold all values, at least four of them.
function decades(lists) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of lists.flat()) {
    if (!(value > 0 && value < Infinity)) continue;
    low = Math.min(low, Math.floor(Math.log10(value) + 1e-9));
    high = Math.max(high, Math.ceil(Math.log10(value) - 1e-9));
  }
  if (low > high) [low, high] = [-2, 2];
  while (high - low < 4) (high - low) % 2 ? low-- : high++;
  return [low, high];
}

function ticks(low, high, about) {
  const step = [1, 2, 5, 10, 20, 25, 50, 100, 200].find((s) => (high - low) / s <= about) ?? 500, found = [];
  for (let t = Math.ceil(low / step) * step; t <= high; t += step) found.push(t);
  return found;
}

function chart({quantity, title, unit, log}, shown) {
  const {width, height, left, right, top, bottom} = SIZE, {depth} = shown.settings;
  const lists = [shown.line, shown.net, ...shown.others].map((run) => run?.[quantity]).filter(Boolean);
  const [low, high] = log ? decades(lists) : [0, 1];
  const x = (layer) => left + (width - left - right) * (layer - 1) / (depth - 1);
  const y = (value) => {
    const place = log ? Math.log10(value) : value;
    return top + (height - top - bottom) * (1 - (place - low) / (high - low));
  };
  const drawn = (value) => (log ? value > 0 && value < Infinity : true);
  const path = (values) => values.map((value, i) => (drawn(value) ? [x(i + 1), y(value)] : null));
  const line = (values, name) => {
    let text = "", up = true;
    for (const point of path(values)) {
      if (point) text += `${up ? "M" : "L"}${point[0].toFixed(1)},${point[1].toFixed(1)}`;
      up = !point;
    }
    return element("svg:path", {class: name, d: text});
  };
  const text = (place, name, said) => element("svg:text", {...place, class: name}, said);
  const picture = element("svg:svg", {viewBox: `0 0 ${width} ${height}`, class: "spp-chart", role: "img", "aria-label": describe(quantity, title, shown)});
  picture.append(text({x: left, y: 16}, "spp-title", title));
  for (const t of log ? ticks(low, high, 5) : [0, 0.25, 0.5, 0.75, 1]) {
    const height = y(log ? 10 ** t : t);
    picture.append(element("svg:line", {x1: left, x2: width - right, y1: height, y2: height, class: "spp-grid"}));
    picture.append(text({x: left - 6, y: height + 4, "text-anchor": "end"}, "spp-tick", log ? power(t) : percent(t)));
  }
  for (const t of new Set([1, ...ticks(1, depth, 6), depth])) {
    if (t !== depth && t !== 1 && Math.min(depth - t, t - 1) < depth / 12) continue;
    picture.append(text({x: x(t), y: height - bottom + 18, "text-anchor": "middle"}, "spp-tick", String(t)));
  }
  picture.append(text({x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle"}, "spp-axis", "layer l (1 is next to the input)"));
  picture.append(text({transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, "spp-axis", unit));
  for (const other of shown.others) picture.append(line(other[quantity], "spp-other"));
  const dots = path(shown.net[quantity]).filter(Boolean).map(([x, y]) => `M${x.toFixed(1)},${y.toFixed(1)}h0`); // round ends
  picture.append(element("svg:path", {class: "spp-net", d: dots.join(""), "stroke-width": depth > 60 ? 4.4 : 6}));
  if (shown.line[quantity]) picture.append(line(shown.line[quantity], "spp-theory"));
  return picture;
}

// --- words -----------------------------------------------------------------------------------------------

function describe(quantity, title, {settings, net, line}) {
  const [first, last] = [net[quantity][0], net[quantity][settings.depth - 1]], spoken = quantity === "saturated" ? percent : say;
  const expected = line[quantity] ? ` Theory: ${spoken(line[quantity][0])} and ${spoken(line[quantity][settings.depth - 1])}.` : " There is no theory line.";
  return `${title}: ${spoken(first)} in layer 1, ${spoken(last)} in layer ${settings.depth}.${expected}`;
}

// From the gradient that reaches layer 1, relative to the last layer's.
const verdict = (reached) =>
  reached < 0.01 ? "vanishes" : reached < 0.1 ? "shrinks" : reached <= 10 ? "is kept" : reached <= 100 ? "grows" : "explodes";

function sentences({settings, net, line}) {
  const {depth} = settings, reached = net.gradient[0], expected = line.gradient?.[0];
  const factor = (ratio) => Number((ratio ** (1 / (depth - 1))).toPrecision(3));
  const told = [`The gradient ${verdict(reached)}: layer 1 gets ${say(reached)} of the norm that layer ${depth} gets`];
  told.push(reached > 0 && Number.isFinite(reached) ? `, a factor ${factor(reached)} a layer. ` : ". ");
  if (expected === undefined) told.push("With batch norm there is no simple line for the gradient: it depends on how alike the examples are. ");
  else if (expected > 0) told.push(`Theory for wide nets: ${say(expected)}, a factor ${factor(expected)} a layer. `);
  const mean = net.saturated.reduce((a, b) => a + b, 0) / depth;
  told.push(`${percent(mean)[0].toUpperCase()}${percent(mean).slice(1)} of the units are saturated; `);
  told.push(`the variance of z goes from ${say(net.variance[0])} to ${say(net.variance[depth - 1])}.`);
  return told.join("");
}

function table({settings, net, line}) {
  const head = ["layer", "variance of z", "theory", "gradient norm", "theory", "saturated", "theory"];
  const body = net.variance.map((_, i) => [
    String(i + 1), say(net.variance[i]), say(line.variance[i]), say(net.gradient[i]),
    line.gradient ? say(line.gradient[i]) : "–", percent(net.saturated[i]), percent(line.saturated[i]),
  ]);
  const cells = (name, row) => element("tr", {}, ...row.map((cell) => element(name, name === "th" ? {scope: "col"} : {}, cell)));
  return element("table", {}, element("caption", {}, `Every layer of this net of ${settings.depth} layers`),
    element("thead", {}, cells("th", head)), element("tbody", {}, ...body.map((row) => cells("td", row))));
}

// --- the widget ------------------------------------------------------------------------------------------

let made = 0; // labels need ids, and a page may hold two playgrounds

function control(name, {label, symbol, unit, choices, low, high, step}) {
  const id = `spp-${name}-${made}`, [base, index] = symbol.split("_");
  const said = [label, ...(base ? [" ", base] : []), ...(index ? [element("sub", {}, index)] : [])];
  const input = choices
    ? element("select", {id}, ...Object.entries(choices).map(([value, text]) => element("option", {value}, text)))
    : element("input", {id, type: name === "seed" ? "number" : "range", min: low, max: high, step});
  const value = input.type === "range" ? element("output", {for: id}) : null;
  input.addEventListener("input", () => value && (value.textContent = input.value));
  return {input, show(v) {
    input.value = v;
    if (value) value.textContent = v;
  }, row: element("div", {class: "spp-control", title: unit || null}, element("label", {for: id}, ...said, ...(value ? [" ", value] : [])), input)};
}

// The address holds the state on the site only: in Jupyter it belongs to Jupyter.
const onSite = () => "content_root" in document.documentElement.dataset;
const inAddress = () => (onSite() && location.hash.includes("=") ? Object.fromEntries(new URLSearchParams(location.hash.slice(1))) : null);

function render({model, el}) {
  made++;
  const controls = JSON.parse(model.get("controls")), parts = {}, box = element("section", {class: "spp", "aria-label": "Signal propagation playground"});
  const [words, problems, figures, rows] = ["p", "ul", "div", "details"].map((name) => element(name));
  const form = element("form", {class: "spp-controls", "aria-label": "The net"});
  words.className = "spp-words";
  words.setAttribute("aria-live", "polite");
  problems.className = "spp-problems";
  problems.setAttribute("role", "alert");
  figures.className = "spp-charts";
  const key = element("p", {class: "spp-key"},
    element("span", {class: "spp-key-net"}, "this net"), element("span", {class: "spp-key-theory"}, "theory for wide nets"),
    element("span", {class: "spp-key-other"}, "other nets, same settings"));

  let settings, net = null, others = [], waiting = false, begun, remembering, shown;
  function* work() {
    net = draw(settings, net);
    yield;
    const line = theory(settings);
    yield;
    shown = {settings, others, line, net: propagate(settings, net)};
    yield;
    const charts = CHARTS.map((each) => chart(each, shown));
    yield;
    figures.replaceChildren(...charts, key);
    words.textContent = sentences(shown);
    if (rows.open) fill();
  }
  // The first net takes longest, as nothing is compiled yet: after smaller ones, and in pieces, between which the page
  // can answer.
  async function begin() {
    const pause = () => new Promise((resolve) => setTimeout(resolve));
    begun = settings; // where these change, show draws at once
    waiting = false;
    for (const depth of [2, 4, 8, 16, 32, 64].filter((each) => each < settings.depth)) {
      net = draw({...settings, depth}, net);
      await pause();
      if (settings === begun && depth <= 8) propagate({...settings, depth}, net);
      await pause();
      if (settings !== begun) return;
    }
    for (const _ of work()) {
      await pause();
      if (settings !== begun) return;
    }
  }
  function show() {
    waiting = false;
    for (const _ of work());
  }
  function fill() {
    rows.querySelector("div").replaceChildren(table(shown));
  }
  function soon() { // many events may come before a picture is drawn
    if (!waiting) requestAnimationFrame(begun ? show : begin);
    waiting = true;
  }
  function set(wanted, {keepOthers = false, remember = true} = {}) {
    const read = readSettings(controls, wanted);
    ({settings} = read);
    if (!keepOthers) others = [];
    problems.replaceChildren(...read.problems.map((problem) => element("li", {}, problem)));
    for (const [name, part] of Object.entries(parts)) part.show(settings[name]);
    model.set("settings", settings);
    model.save_changes();
    clearTimeout(remembering); // written when a slider rests: Safari allows a hundred changes in half a minute
    if (remember && onSite()) remembering = setTimeout(() => history.replaceState(null, "", `#${new URLSearchParams(settings)}`), 200);
    soon();
  }
  function anotherNet() {
    if (shown?.settings === settings) others = [shown.net, ...others].slice(0, NETS);
    set({...settings, seed: (settings.seed + 1) % (controls.seed.high + 1)}, {keepOthers: true});
  }
  function manyNets(left = NETS) { // a net a frame, so that the page stays alive
    anotherNet();
    if (left > 1) requestAnimationFrame(() => requestAnimationFrame(() => manyNets(left - 1)));
  }

  for (const [name, description] of Object.entries(controls)) {
    parts[name] = control(name, description);
    form.append(parts[name].row);
    parts[name].input.addEventListener(name === "seed" ? "change" : "input", () => set({...settings, [name]: parts[name].input.value}));
  }
  const button = (text, act) => {
    const pressed = element("button", {type: "button"}, text);
    pressed.addEventListener("click", () => act());
    return pressed;
  };
  form.append(element("div", {class: "spp-buttons"},
    button("Another net", anotherNet), button(`${NETS} more nets`, manyNets), button("Start again", () => set({}))));
  form.addEventListener("submit", (event) => event.preventDefault());
  rows.append(element("summary", {}, "All layers as a table"), element("div", {class: "spp-table", tabindex: "0", role: "region", "aria-label": "All layers"}));
  rows.addEventListener("toggle", () => rows.open && shown && fill());
  box.append(form, problems, words, figures, rows);
  el.append(box);

  const given = inAddress();
  set(given ?? model.get("settings"), {remember: Boolean(given)});
  const followAddress = () => {
    const wanted = inAddress();
    if (!wanted) return;
    set(wanted, {remember: false});
    box.scrollIntoView({block: "start"});
  };
  window.addEventListener("hashchange", followAddress);
  const followKernel = () => {
    if (JSON.stringify(model.get("settings")) !== JSON.stringify(settings)) set(model.get("settings"));
  };
  model.on("change:settings", followKernel);
  return () => {
    window.removeEventListener("hashchange", followAddress);
    model.off("change:settings", followKernel);
  };
}

export default {render};
