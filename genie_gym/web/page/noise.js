// Counter-based random numbers, the same bits as world_models/noise.py.

const GOLDEN = 0x9e3779b97f4a7c15n;
const MASK = (1n << 64n) - 1n;

function mix(x) {
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return x ^ (x >> 31n);
}

/** Uniform numbers in [0, 1) of a seed and a counter, from place `first` on. */
export function uniform(seed, counter, first, count) {
  const row = mix((mix(BigInt.asUintN(64, BigInt(seed))) + BigInt(counter) * GOLDEN) & MASK);
  return Float32Array.from({ length: count }, (_, at) => {
    const bits = mix((row + BigInt(first + at + 1) * GOLDEN) & MASK);
    return Number(bits >> 40n) / 2 ** 24;
  });
}
