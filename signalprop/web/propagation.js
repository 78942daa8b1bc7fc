// Signal propagation through a random net, forward and backward, in float64, and its mean-field theory.
//
// Layer l = 1 … L of N units: z_l = W_l x_{l−1} + b_l, f = φ(norm(z_l)), x_l = f, or x_{l−1} + s f with a skip
// connection (s = 1, or 1/√L), with W_ij ~ N(0, σ_w²/N) and b_i ~ N(0, σ_b²). The loss is ℒ = Σ v·x_L over the
// examples, with a random v for each. tests/test_playground.py compares all of it with torch's autograd.

export const EXAMPLES = 16; // in the batch
const EPSILON = 1e-5; // of the normalisations, as in torch

// --- activations ---------------------------------------------------------------------------------------

// erf by its Taylor series, and erfc by its continued fraction where the series cancels.
function erf(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 2.5) {
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= -x * x / n;
      sum += term / (2 * n + 1);
    }
    return 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = size;
  for (let k = 60; k > 0; k--) fraction = size + k / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-x * x) / (fraction * Math.sqrt(Math.PI)));
}

const normalPdf = (z) => Math.exp(-z * z / 2) / Math.sqrt(2 * Math.PI);

// P(Z < z), by Taylor's formula from the nearest 1/64, where it is tabulated: erf itself is too slow for GELU.
const cdfTable = Array.from({length: 2 * 64 * 9 + 1}, (_, i) => i / 64 - 9)
  .map((c) => ({c, cdf: (1 + erf(c / Math.SQRT2)) / 2, pdf: normalPdf(c)}));
export function normalCdf(z) {
  if (!(Math.abs(z) < 9)) return z > 0 ? 1 : 0;
  const {c, cdf, pdf} = cdfTable[Math.round((z + 9) * 64)], t = z - c, cc = c * c;
  const series = 1 - t * (c / 2 - t * ((cc - 1) / 6 - t * ((cc - 3) * c / 24 - t * (cc * cc - 6 * cc + 3) / 120)));
  return cdf + pdf * t * series;
}

const logistic = (z) => 1 / (1 + Math.exp(-z));
const [SELU_SCALE, SELU_ALPHA] = [1.0507009873554805, 1.6732632423543772];

// value(z); slope(z, value) = φ′(z); saturated(value, slope): within 0.05 of a bound, else where |φ′| < 0.1.
const activation = (value, slope, saturated = (_, slope) => Math.abs(slope) < 0.1) => ({value, slope, saturated});
const kinked = (left, slopeLeft, scale = 1) =>
  activation((z) => (z > 0 ? scale * z : left(z)), (z, value) => (z > 0 ? scale : slopeLeft(value)));

export const ACTIVATIONS = {
  linear: activation((z) => z, () => 1),
  sigmoid: activation(logistic, (_, value) => value * (1 - value), (value) => Math.abs(value - 0.5) >= 0.45),
  tanh: activation(Math.tanh, (_, value) => 1 - value * value, (value) => Math.abs(value) >= 0.95),
  relu: kinked(() => 0, () => 0),
  leaky: kinked((z) => 0.01 * z, () => 0.01),
  elu: kinked(Math.expm1, (value) => value + 1),
  selu: kinked((z) => SELU_SCALE * SELU_ALPHA * Math.expm1(z), (value) => value + SELU_SCALE * SELU_ALPHA, SELU_SCALE),
  gelu: activation((z) => z * normalCdf(z), (z, value) => (z ? value / z + z * normalPdf(z) : 0.5)),
  silu: activation((z) => z * logistic(z), (z, value) => (z ? value / z * (1 + z - value) : 0.5)),
};

// --- the net -------------------------------------------------------------------------------------------

// Standard normal numbers from a seed and a stream: sfc32 [Doty-Humphrey 2010] and Box and Muller's transform.
export function normals(count, seed, stream) {
  let [a, b, c, n] = [seed | 0, stream | 0, 0x9e3779b9 | 0, 1];
  const word = () => {
    const sum = (a + b + n) | 0;
    n = (n + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 16; i++) word(); // until the seed has reached every bit
  const uniform = () => (word() + (word() >>> 11) / 2 ** 21 + 2 ** -54) / 2 ** 32;
  const drawn = new Float64Array(count + (count & 1));
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform())), angle = 2 * Math.PI * uniform();
    drawn[i] = radius * Math.cos(angle);
    drawn[i + 1] = radius * Math.sin(angle);
  }
  return drawn.subarray(0, count);
}

// The net's random numbers in units of their scales. A layer has a stream of its own: a deeper net has the same
// first layers, and moving a scale moves the same net.
export function draw({seed, width, depth}, before = null) {
  const N = Number(width), net = before?.seed === seed && before.N === N ? before : {seed, N, weights: [], biases: []};
  for (let l = net.weights.length; l < depth; l++) {
    net.weights.push(normals(N * N, seed, 2 * l + 2));
    net.biases.push(normals(N, seed, 2 * l + 3));
  }
  if (!net.inputs) {
    net.inputs = normals(EXAMPLES * N, seed, 0);
    for (let e = 0; e < EXAMPLES; e++) { // each example has mean square 1
      const x = net.inputs.subarray(e * N, (e + 1) * N), size = Math.sqrt(meanSquare(x));
      for (let i = 0; i < N; i++) x[i] /= size;
    }
    net.direction = normals(EXAMPLES * N, seed, 1);
  }
  return net;
}

// ‖x‖; where the squares would leave the range of numbers (a gradient of 1e-200), scaled by the largest.
function norm(x) {
  let largest = 0, sum = 0;
  for (let k = 0; k < x.length; k++) sum += x[k] * x[k];
  if (sum > 1e-280 && sum < 1e280) return Math.sqrt(sum);
  sum = 0;
  for (const v of x) largest = Math.max(largest, Math.abs(v));
  if (!(largest > 0 && largest < Infinity)) return largest;
  for (const v of x) sum += (v / largest) ** 2;
  return Math.sqrt(sum) * largest;
}

const meanSquare = (x) => norm(x) ** 2 / x.length;

// out[e, i] = Σ_j x[e, j] W[i, j]; four examples and two rows of W at a time, so that each number is read less often:
// N must be even, as the widths of controls.json are.
function timesTransposed(x, W, N, out) {
  for (let e = 0; e < EXAMPLES; e += 4) {
    const p = e * N, q = p + N, r = q + N, s = r + N;
    for (let i = 0; i < N; i += 2) {
      let a = 0, b = 0, c = 0, d = 0, a2 = 0, b2 = 0, c2 = 0, d2 = 0;
      for (let j = 0, k = i * N; j < N; j++, k++) {
        const w = W[k], w2 = W[k + N], xp = x[p + j], xq = x[q + j], xr = x[r + j], xs = x[s + j];
        a += w * xp;
        b += w * xq;
        c += w * xr;
        d += w * xs;
        a2 += w2 * xp;
        b2 += w2 * xq;
        c2 += w2 * xr;
        d2 += w2 * xs;
      }
      out[p + i] = a;
      out[q + i] = b;
      out[r + i] = c;
      out[s + i] = d;
      out[p + i + 1] = a2;
      out[q + i + 1] = b2;
      out[r + i + 1] = c2;
      out[s + i + 1] = d2;
    }
  }
}

// out[e, j] = Σ_i g[e, i] W[i, j].
function times(g, W, N, out) {
  out.fill(0);
  for (let e = 0; e < EXAMPLES; e += 4) {
    const p = e * N, q = p + N, r = q + N, s = r + N;
    for (let i = 0; i < N; i += 2) {
      const a = g[p + i], b = g[q + i], c = g[r + i], d = g[s + i];
      const a2 = g[p + i + 1], b2 = g[q + i + 1], c2 = g[r + i + 1], d2 = g[s + i + 1];
      for (let j = 0, k = i * N; j < N; j++, k++) {
        const w = W[k], w2 = W[k + N];
        out[p + j] += a * w + a2 * w2;
        out[q + j] += b * w + b2 * w2;
        out[r + j] += c * w + c2 * w2;
        out[s + j] += d * w + d2 * w2;
      }
    }
  }
}

// The groups of numbers that a normalisation makes alike: of an example (layer, rms) or of a unit (batch).
function groups(kind, N) {
  return kind === "batch"
    ? {count: N, size: EXAMPLES, start: (g) => g, step: N, centred: true}
    : {count: EXAMPLES, size: N, start: (g) => g * N, step: 1, centred: kind === "layer"};
}

// Normalises z in place; returns 1/√(variance + ε) of each group.
function normalise(z, kind, N) {
  const {count, size, start, step, centred} = groups(kind, N), inverse = new Float64Array(count);
  for (let g = 0; g < count; g++) {
    let mean = 0, square = 0;
    if (centred) for (let n = 0, k = start(g); n < size; n++, k += step) mean += z[k] / size;
    for (let n = 0, k = start(g); n < size; n++, k += step) square += (z[k] - mean) ** 2 / size;
    inverse[g] = 1 / Math.sqrt(square + EPSILON);
    for (let n = 0, k = start(g); n < size; n++, k += step) z[k] = (z[k] - mean) * inverse[g];
  }
  return inverse;
}

// From ∂ℒ/∂ẑ to ∂ℒ/∂z, in place: without the part along ẑ and, where centred, the mean.
function normaliseBackward(gradient, z, inverse, kind, N) {
  const {count, size, start, step, centred} = groups(kind, N);
  for (let g = 0; g < count; g++) {
    let mean = 0, along = 0;
    for (let n = 0, k = start(g); n < size; n++, k += step) {
      if (centred) mean += gradient[k] / size;
      along += gradient[k] * z[k] / size;
    }
    for (let n = 0, k = start(g); n < size; n++, k += step) {
      gradient[k] = (gradient[k] - mean - z[k] * along) * inverse[g];
    }
  }
}

const branchScale = ({skip, depth}) => (skip === "scaled" ? 1 / Math.sqrt(depth) : 1);

// Runs the net; each result holds one number per layer 1 … L:
//   variance   mean of z² over units and examples, before the normalisation
//   saturated  share of units and examples that are saturated
//   gradient   ‖∂ℒ/∂x_l‖ / ‖∂ℒ/∂x_L‖, over units and examples: norms, not their squares
export function propagate(settings, net) {
  const {depth, sigma_w, sigma_b, norm: kind, skip} = settings, N = net.N, count = EXAMPLES * N;
  const phi = ACTIVATIONS[settings.phi], scale = branchScale(settings), gain = sigma_w / Math.sqrt(N);
  const variance = [], saturated = [], gradient = [], slopes = [], normalised = [], inverses = [];
  let x = net.inputs;
  for (let l = 0; l < depth; l++) {
    const z = new Float64Array(count), next = new Float64Array(count), slope = new Float64Array(count), b = net.biases[l];
    timesTransposed(x, net.weights[l], N, z);
    for (let k = 0; k < count; k++) z[k] = gain * z[k] + sigma_b * b[k % N];
    variance.push(meanSquare(z));
    inverses.push(kind === "none" ? null : normalise(z, kind, N));
    let flat = 0;
    for (let k = 0; k < count; k++) {
      const value = phi.value(z[k]), slopeHere = phi.slope(z[k], value);
      next[k] = skip === "none" ? value : x[k] + scale * value;
      slope[k] = scale * slopeHere;
      flat += phi.saturated(value, slopeHere);
    }
    saturated.push(flat / count);
    slopes.push(slope);
    normalised.push(z);
    x = next;
  }
  let g = Float64Array.from(net.direction);
  for (let l = depth - 1; l >= 0; l--) {
    gradient[l] = norm(g);
    const d = new Float64Array(count), next = new Float64Array(count);
    for (let k = 0; k < count; k++) d[k] = g[k] * slopes[l][k];
    if (inverses[l]) normaliseBackward(d, normalised[l], inverses[l], kind, N);
    times(d, net.weights[l], N, next);
    for (let k = 0; k < count; k++) next[k] = gain * next[k] + (skip === "none" ? 0 : g[k]);
    g = next;
  }
  const last = gradient[depth - 1];
  return {variance, saturated, gradient: gradient.map((v) => v / last)};
}

// --- mean-field theory ---------------------------------------------------------------------------------

// Nodes and weights for E f(Z), Z ~ N(0, 1), on panels that shrink towards the kink at 0, as signalprop.theory has
// them: 20 Gauss-Legendre nodes in each panel.
const [NODES, WEIGHTS] = (() => {
  const points = 20, legendre = [], edges = [0];
  for (let i = 0; i < points; i++) {
    let t = Math.cos(Math.PI * (i + 0.75) / (points + 0.5)), slope = 0;
    for (let step = 0; step < 8; step++) { // Newton's method
      let [before, value] = [1, t];
      for (let k = 2; k <= points; k++) [before, value] = [value, ((2 * k - 1) * t * value - (k - 1) * before) / k];
      slope = points * (t * value - before) / (t * t - 1);
      t -= value / slope;
    }
    legendre.push([t, 2 / ((1 - t * t) * slope * slope)]);
  }
  for (let k = 0; k < 14; k++) edges.push(12 / 2 ** k, -12 / 2 ** k);
  edges.sort((a, b) => a - b);
  const nodes = [], weights = [];
  for (let e = 1; e < edges.length; e++) {
    const middle = (edges[e] + edges[e - 1]) / 2, half = (edges[e] - edges[e - 1]) / 2;
    for (const [t, w] of legendre) {
      nodes.push(middle + half * t);
      weights.push(half * w * normalPdf(middle + half * t));
    }
  }
  return [Float64Array.from(nodes), Float64Array.from(weights)];
})();

// E φ, E φ² and E φ′² over N(0, q).
export function moments(name, q) {
  const {value, slope} = ACTIVATIONS[name], root = Math.sqrt(q);
  let [mean, square, slopeSquare] = [0, 0, 0];
  for (let i = 0; i < NODES.length; i++) {
    const z = root * NODES[i], v = value(z), s = slope(z, v);
    mean += WEIGHTS[i] * v;
    square += WEIGHTS[i] * v * v;
    slopeSquare += WEIGHTS[i] * s * s;
  }
  return {mean, square, slopeSquare};
}

// P(saturated) over N(0, q): where the condition changes is found once for each activation, by bisection.
const changes = {};
function shareSaturated(name, q) {
  const {value, slope} = ACTIVATIONS[name];
  const saturated = (z) => ACTIVATIONS[name].saturated(value(z), slope(z, value(z)));
  changes[name] ??= (() => {
    const found = [];
    for (let z = -40; z < 40; z += 1 / 64) {
      if (saturated(z) === saturated(z + 1 / 64)) continue;
      let [low, high] = [z, z + 1 / 64];
      for (let step = 0; step < 60; step++) {
        const middle = (low + high) / 2;
        if (saturated(middle) === saturated(z)) low = middle;
        else high = middle;
      }
      found.push(low);
    }
    return found;
  })();
  const root = Math.sqrt(q), edges = [-Infinity, ...changes[name], Infinity];
  let share = 0;
  for (let i = 1; i < edges.length; i++) {
    const [low, high] = [edges[i - 1], edges[i]];
    const inside = low === -Infinity ? (high === Infinity ? 0 : high - 1) : high === Infinity ? low + 1 : (low + high) / 2;
    if (saturated(inside)) share += normalCdf(high / root) - normalCdf(low / root);
  }
  return share;
}

// What `propagate` measures, in the limit of many units [Poole et al. 2016; Schoenholz et al. 2017]: the pre-activations
// are Gaussian, and W is independent of the gradient that comes back through it. A skip connection adds the branch's
// moments to those of the stream [Yang and Schoenholz 2017]. `gradient` is null with batch norm, where it depends on
// how alike the examples are.
export function theory(settings) {
  const {depth, sigma_w, sigma_b, norm: kind, skip} = settings, scale = branchScale(settings);
  const variance = [], saturated = [], factor = [];
  let [square, mean] = [1, 0]; // of the stream x
  for (let l = 0; l < depth; l++) {
    const q = sigma_w ** 2 * square + sigma_b ** 2;
    const shrink = kind === "none" ? 1 : 1 / (q + EPSILON); // of variances, by the normalisation
    const phi = moments(settings.phi, q * shrink);
    variance.push(q);
    saturated.push(shareSaturated(settings.phi, q * shrink));
    factor.push(scale ** 2 * sigma_w ** 2 * phi.slopeSquare * shrink + (skip === "none" ? 0 : 1));
    if (skip === "none") square = phi.square;
    else [square, mean] = [square + 2 * scale * mean * phi.mean + scale ** 2 * phi.square, mean + scale * phi.mean];
  }
  const gradient = kind === "batch" ? null : new Array(depth).fill(1);
  if (gradient) for (let l = depth - 2; l >= 0; l--) gradient[l] = gradient[l + 1] * Math.sqrt(factor[l + 1]);
  return {variance, saturated, gradient};
}

// --- settings ------------------------------------------------------------------------------------------

// Settings from an object of names and values (numbers or text), with the starting value in place of each that is
// missing or wrong, and a sentence for each that is wrong. `controls` is controls.json.
export function readSettings(controls, wanted) {
  const settings = {}, problems = [];
  for (const [name, control] of Object.entries(controls)) {
    settings[name] = control.start;
    if (!(name in wanted)) continue;
    const value = wanted[name], number = String(value).trim() === "" ? NaN : Number(value);
    if (control.choices) {
      if (Object.hasOwn(control.choices, String(value))) settings[name] = String(value);
      else problems.push(`${name}: expected one of ${Object.keys(control.choices).join(", ")}; got “${value}”, so ${control.start} is shown`);
    } else if (number >= control.low && number <= control.high) {
      settings[name] = Number((Math.round(number / control.step) * control.step).toFixed(6));
    } else {
      problems.push(`${name}: expected a number from ${control.low} to ${control.high}; got “${value}”, so ${control.start} is shown`);
    }
  }
  for (const name of Object.keys(wanted)) {
    if (!Object.hasOwn(controls, name)) problems.push(`“${name}” is no setting; there are ${Object.keys(controls).join(", ")}`);
  }
  return {settings, problems};
}
