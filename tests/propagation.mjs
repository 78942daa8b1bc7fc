// Answers test_playground.py: a list of [name of a function of propagation.js, arguments] comes in on standard input,
// the list of what they return goes out. "run" draws a net, runs it, and returns its random numbers too.
import {readFileSync} from "node:fs";

const arithmetic = await import(new URL("../signalprop/web/propagation.js", import.meta.url));
const plain = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);

const functions = {
  ...arithmetic,
  activation: (name, z) => {
    const {value, slope} = arithmetic.ACTIVATIONS[name];
    return [z.map(value), z.map((v) => slope(v, value(v)))];
  },
  run(settings) {
    const net = arithmetic.draw(settings);
    return {...arithmetic.propagate(settings, net), ...net};
  },
  // A change of the weight scale, and its matrices' multiplications alone in a plain loop, side by side: the median
  // milliseconds of 15 after 5 that warm up.
  milliseconds(settings) {
    const net = arithmetic.draw(settings), count = 2 * settings.depth * arithmetic.EXAMPLES * net.N ** 2;
    const changes = [], plain = [], median = (times) => times.slice(5).sort((a, b) => a - b)[7];
    const [u, v] = [net.weights[0], net.weights[1]];
    let sum = 0;
    for (let i = 0; i < 20; i++) {
      const start = performance.now();
      arithmetic.propagate({...settings, sigma_w: settings.sigma_w + i / 100}, net);
      arithmetic.theory({...settings, sigma_w: settings.sigma_w + i / 100});
      const between = performance.now();
      for (let k = 0; k < count; k++) sum += u[k % u.length] * v[k % v.length];
      changes.push(between - start);
      plain.push(performance.now() - between);
    }
    if (Number.isNaN(sum)) throw new Error("not a number"); // the loop must not be optimised away
    return [median(changes), median(plain)];
  },
};

const asked = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(asked.map(([name, ...given]) => functions[name](...given)), plain));
