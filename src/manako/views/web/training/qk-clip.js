/**
 * QK-Clip: attention scores that grow past a bound are brought back by the weights of queries and keys, since Muon may let
 * them grow without end. What `manako.training.qk_clip` does, which says more; a test compares the two.
 */

/** @import {Trainer} from "./trainer.js" */

const BOUND = 100;
export const INTERVAL = 32; // steps
export const WINDOWS = 2; // that are looked at

/**
 * Bring the scores that each head gives to the first windows to BOUND at most, as absolute values.
 * @param {Trainer} trainer
 * @param {Int32Array} ids of all windows
 * @param {number} windows that count
 * @param {number} length of one of them
 */
export function clipScores(trainer, ids, windows, length) {
    const { n_layer, n_head, n_embd: C } = trainer.shape;
    const weights = trainer.tensors("weight");
    const size = C / n_head;
    let isNew = true; // what the layers below have become
    for (let layer = 0; layer < n_layer; layer++) {
        const qkv = trainer.look(ids, isNew).qkv(layer);
        const [weight, bias] = ["weight", "bias"].map((kind) => /** @type {{data: Float32Array}} */ (weights.get(`h.${layer}.attn.c_attn.${kind}`)).data);
        isNew = false;
        for (let head = 0; head < n_head; head++) {
            const q = head * size;
            const k = C + q;
            const place = (/** @type {number} */ window, /** @type {number} */ t) => (window * trainer.shape.n_positions + t) * 3 * C;
            const largest = () => {
                let most = 0;
                for (let w = 0; w < windows; w++) {
                    for (let t = 0; t < length; t++) {
                        for (let s = 0; s <= t; s++) {
                            let score = 0;
                            for (let i = 0; i < size; i++) score += qkv[place(w, t) + q + i] * qkv[place(w, s) + k + i];
                            most = Math.max(most, Math.abs(score));
                        }
                    }
                }
                return most / Math.sqrt(size);
            };
            if (largest() <= BOUND) continue;
            for (let i = 0; i < size; i++) {
                let common = 0;
                for (let w = 0; w < windows; w++) for (let t = 0; t < length; t++) common += qkv[place(w, t) + k + i] / (windows * length);
                for (let w = 0; w < windows; w++) for (let t = 0; t < length; t++) qkv[place(w, t) + k + i] -= common;
                bias[k + i] -= common;
            }
            const factor = Math.sqrt(BOUND / Math.max(BOUND, largest()));
            for (const first of [q, k]) {
                for (let i = first; i < first + size; i++) {
                    bias[i] *= factor;
                    for (let r = 0; r < C; r++) weight[r * 3 * C + i] *= factor;
                }
            }
            isNew = true;
        }
    }
}
