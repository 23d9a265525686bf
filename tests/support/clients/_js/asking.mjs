// What the clients in JavaScript share: onnxruntime-node and onnxruntime-web have one interface.

/**
 * Asks a model for each photo, then times it.
 *
 * @param {ort.InferenceSession} session takes `image`, uint8 [batch, height, width, 3]
 * @param {{pixels: Uint8Array, shape: number[]}[]} photos RGB bytes, row by row
 * @param {number} rounds how often each photo is asked for against the clock
 * @returns {Promise<{masks: {pixels: Uint8Array, shape: number[]}[], milliseconds: number | null}>}
 *   class ids, uint8 [batch, size, size] each, and the median time of one
 */
export async function ask(ort, session, photos, rounds) {
  const tensors = photos.map(({ pixels, shape }) => new ort.Tensor("uint8", pixels, shape));
  const masks = [];
  for (const image of tensors) {
    const { mask } = await session.run({ image });
    masks.push({ pixels: mask.data, shape: [...mask.dims] });
  }
  // In turns, so that another job on the machine slows all of them.
  const times = [];
  for (let round = 0; round < rounds; round++) {
    for (const image of tensors) {
      const begin = performance.now();
      await session.run({ image });
      times.push(performance.now() - begin);
    }
  }
  times.sort((a, b) => a - b);
  return { masks, milliseconds: times[Math.floor(times.length / 2)] ?? null };
}
