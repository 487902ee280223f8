/**
 * GPT-2 forward and back, AdamW and Muon, over one memory: what `manako.training` does with PyTorch, for a plain model whose
 * sizes the kernel takes. tests/views/web/test_training.py compares gradients, losses and runs.
 *
 * Special here: every number that the way back needs is kept where the forward pass put it; gradients, moments and
 * weights lie in the same order, so one place and three distances name all four. The vocabulary is filled up with rows
 * of zeros that never move.
 *
 * Letters: B windows, T tokens of one, R = B T, C = n_embd, nh heads, hs the size of one, V logits filled up.
 */

/** @import {KernelName, ProductHow, TrainingKernel} from "./kernel.js" */
import { BETA1, BETA2, ROUND, trainingKernel } from "./kernel.js";
import { UNSCORED } from "./held-out.js";
import { isHidden, moveOrthogonally, roomFor } from "./muon.js";
import { normals } from "./random.js";

/** @typedef {{n_layer: number, n_head: number, n_embd: number, n_positions: number, vocab_size: number}} Shape in the names of config.json */
/** @typedef {{steps: number, numbers: Float32Array | Float64Array}} Snapshot */
/** @typedef {{at: number, shape: number[]}} Place of a tensor, in the shape that a file has it in */
/** @typedef {"exp_avg" | "exp_avg_sq" | "momentum"} TensorKept by AdamW the first two, by Muon the last */
/** @typedef {{rate: number, muonRate: number, decay: number, clip: number}} Pace rate: of AdamW; the gradient is clipped to a norm */
/**
 * What the forward pass leaves of a layer.
 * @typedef {object} Passed
 * @property {number} unit1 @property {number} scale1 @property {number} normed1 [R, C]: ln_1, apart and as its output
 * @property {number} qkv [R, 3C]
 * @property {number} pattern [B, nh, T, T]
 * @property {number} z [R, C] what the heads read
 * @property {number} mid [R, C] the stream between attention and MLP
 * @property {number} unit2 @property {number} scale2 @property {number} normed2
 * @property {number} slope @property {number} active [R, 4C] of the activation, and what comes out of it
 * @property {number} out [R, C] the stream behind the layer
 */

export const LAYER_NORM_EPSILON = 1e-5;
const STD = 0.02;
const LEARNED = 4; // numbers of each parameter: weight, gradient, two moments, one after the other
const NEVER = -1e30; // a logit whose exp is 0
/** @type {ProductHow} */
const CAUSAL = { triangle: "x" };
/** @type {ProductHow} */
const CAUSAL_RESULT = { triangle: "y" };

export class Trainer {
    /**
     * Throws RangeError for sizes that the kernel does not take.
     * @param {Shape} shape
     * @param {number} batch windows a step
     * @param {number} seed of the first weights
     * @param {KernelName} [wanted] what it computes with
     * @param {boolean} [hasMuon] whether Muon moves the matrices inside the blocks
     */
    constructor(shape, batch, seed, wanted = "wasm", hasMuon = false) {
        const { n_layer, n_head, n_embd: C, n_positions: T, vocab_size } = shape;
        if ([C / n_head, T, batch * T].some((each) => !Number.isInteger(each / ROUND))) throw new RangeError("sizes must be multiples of 8");
        this.shape = shape;
        this.batch = batch;
        this.hasMuon = hasMuon;
        const V = Math.ceil(vocab_size / ROUND) * ROUND;
        const R = batch * T;
        this.#sizes = { C, T, R, V, hs: C / n_head };
        let size = 4; // no place is 0
        const take = (/** @type {number} */ count) => (size += Math.ceil(count / 4) * 4) - Math.ceil(count / 4) * 4;
        const tensor = (/** @type {string} */ name, /** @type {number[]} */ ...sides) => {
            const at = take(sides.reduce((a, b) => a * b) + (name === "wte.weight" ? (V - vocab_size) * C : 0));
            this.#places.set(name, { at, shape: sides });
        };
        const linear = (/** @type {string} */ name, /** @type {number} */ inner, /** @type {number} */ outer) => {
            tensor(`${name}.weight`, inner, outer);
            tensor(`${name}.bias`, outer);
        };
        const norm = (/** @type {string} */ name) => {
            tensor(`${name}.weight`, C);
            tensor(`${name}.bias`, C);
        };
        this.#first = size;
        tensor("wte.weight", vocab_size, C);
        tensor("wpe.weight", T, C);
        for (let i = 0; i < n_layer; i++) {
            norm(`h.${i}.ln_1`);
            linear(`h.${i}.attn.c_attn`, C, 3 * C);
            linear(`h.${i}.attn.c_proj`, C, C);
            norm(`h.${i}.ln_2`);
            linear(`h.${i}.mlp.c_fc`, C, 4 * C);
            linear(`h.${i}.mlp.c_proj`, 4 * C, C);
        }
        norm("ln_f");
        this.#count = size - this.#first;
        this.#toGradient = take(this.#count) - this.#first;
        this.#toMoment = take(this.#count) - this.#first;
        this.#toSquare = take(this.#count) - this.#first;
        this.#stream = take(R * C);
        /** @type {Passed[]} */
        this.#layers = Array.from({ length: n_layer }, () => ({
            unit1: take(R * C), scale1: take(R), normed1: take(R * C), qkv: take(3 * R * C), pattern: take(R * n_head * T), z: take(R * C), mid: take(R * C),
            unit2: take(R * C), scale2: take(R), normed2: take(R * C), slope: take(4 * R * C), active: take(4 * R * C), out: take(R * C),
        }));
        this.#last = { unit: take(R * C), scale: take(R), normed: take(R * C) };
        this.#logits = take(R * V);
        this.#told = take(2 * Math.max(R, T));
        this.#back = { stream: take(R * C), narrow: take(R * C), qkv: take(3 * R * C), wide: take(4 * R * C), pattern: take(T * T) };
        this.#room = take(hasMuon ? roomFor(C) : 0);
        this.kernel = trainingKernel(size, Math.max(V, 4 * C, T), T, wanted);
        this.#numbers = this.kernel.numbers;
        this.#begin(seed);
    }

    /** @type {TrainingKernel} */
    kernel;
    /** Optimizer steps that were taken. */
    steps = 0;
    #sizes;
    #numbers;
    /** @type {Map<string, Place>} */
    #places = new Map();
    #first;
    #count;
    #toGradient;
    #toMoment;
    #toSquare;
    #stream;
    #layers;
    #last;
    #logits;
    #told;
    #back;
    #room;

    /** How many numbers are learned. */
    get parameters() {
        return [...this.#places.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
    }

    /**
     * All weights, their gradients, or what AdamW or Muon keeps of those that it moves: views into the memory, by the
     * names of a file.
     * @param {"weight" | "gradient" | TensorKept} kind
     * @returns {Map<string, {shape: number[], data: Float32Array | Float64Array}>}
     */
    tensors(kind) {
        const by = { weight: 0, gradient: this.#toGradient, exp_avg: this.#toMoment, exp_avg_sq: this.#toSquare, momentum: this.#toMoment }[kind];
        const isOfAll = kind === "weight" || kind === "gradient";
        const view = (/** @type {Place} */ { at, shape }) => ({ shape, data: this.#numbers.subarray(at + by, at + by + shape.reduce((a, b) => a * b)) });
        const listed = [...this.#places].filter(([name, { shape }]) => isOfAll || (this.hasMuon && isHidden(name, shape)) === (kind === "momentum"));
        return new Map(listed.map(([name, place]) => [name, view(place)]));
    }

    /** One optimizer step on windows [B, T]: its loss in nats a token, and the norm of the gradient, both of the weights
     * before it.
     * @param {Int32Array} ids
     * @param {Int32Array} targets
     * @param {Pace} how
     */
    step(ids, targets, how) {
        const loss = this.gradients(ids, targets);
        const norm = this.gradientNorm();
        this.move(how, norm);
        return { loss, norm };
    }

    /** Gradients of the mean loss of all targets but UNSCORED ones, which it returns, in nats. @param {Int32Array} ids @param {Int32Array} targets */
    gradients(ids, targets) {
        const total = this.#forward(ids, targets);
        const scored = targets.reduce((sum, target) => sum + Number(target !== UNSCORED), 0);
        this.#backward(ids, targets, scored);
        return total / scored;
    }

    /** The summed loss of all targets but UNSCORED ones, in nats. @param {Int32Array} ids @param {Int32Array} targets */
    loss(ids, targets) {
        return this.#forward(ids, targets);
    }

    /** The loss of each target, in nats; 0 of UNSCORED ones. @param {Int32Array} ids @param {Int32Array} targets */
    losses(ids, targets) {
        this.#forward(ids, targets);
        return Float64Array.from(targets, (target, r) => (target === UNSCORED ? 0 : -Math.log(this.#numbers[this.#logits + r * this.#sizes.V + target])));
    }

    /** The probabilities of what comes after a place of the first window. @param {Int32Array} ids @param {number} place */
    expect(ids, place) {
        return this.look(ids).expected(place).slice();
    }

    /**
     * What the model makes of windows: views into the memory, good until it is used again.
     * @param {Int32Array} ids
     * @param {boolean} [isNew] false where that was the last thing that it did
     */
    look(ids, isNew = true) {
        const { C, R, T, V } = this.#sizes;
        if (isNew) this.#forward(ids, new Int32Array(ids.length).fill(UNSCORED));
        const view = (/** @type {number} */ at, /** @type {number} */ count) => this.#numbers.subarray(at, at + count);
        return {
            /** The probabilities of what comes after a place. @param {number} place */
            expected: (place) => view(this.#logits + place * V, this.shape.vocab_size),
            /** [T, T] where a head looks in the first window. @param {number} layer @param {number} head */
            pattern: (layer, head) => view(this.#layers[layer].pattern + head * T * T, T * T),
            /** [R, 3C] queries, keys and values. @param {number} layer */
            qkv: (layer) => view(this.#layers[layer].qkv, 3 * R * C),
        };
    }

    /** The weights as they are now. @returns {Snapshot} */
    snapshot() {
        return { steps: this.steps, numbers: this.#numbers.slice(this.#first, this.#first + this.#count) };
    }

    /** The same with gradients and moments. @returns {Snapshot} */
    state() {
        return { steps: this.steps, numbers: this.#numbers.slice(this.#first, this.#first + LEARNED * this.#count) };
    }

    /** Have either again, bit for bit. @param {Snapshot} kept */
    restore({ steps, numbers }) {
        this.steps = steps;
        this.#numbers.set(numbers, this.#first);
    }

    gradientNorm() {
        let sum = 0;
        for (const { at, shape } of this.#places.values()) sum += this.kernel.squares(at + this.#toGradient, Math.ceil(shape.reduce((a, b) => a * b) / 4) * 4);
        return Math.sqrt(sum);
    }

    /**
     * Move the weights along their gradients. Source: Loshchilov and Hutter 2019, arXiv:1711.05101.
     * @param {Pace} how
     * @param {number} norm of the gradient
     */
    move({ rate, muonRate, decay, clip }, norm) {
        this.steps++;
        const correction = { rate: rate / (1 - BETA1 ** this.steps), root: 1 / Math.sqrt(1 - BETA2 ** this.steps) };
        const by = { clip: Math.min(1, clip / (norm + 1e-6)), ...correction };
        for (const [name, { at, shape }] of this.#places) {
            if (this.hasMuon && isHidden(name, shape)) {
                const places = { at, gradient: at + this.#toGradient, momentum: at + this.#toMoment, room: this.#room };
                moveOrthogonally(this.kernel, places, shape, by.clip, muonRate);
                continue;
            }
            const count = Math.ceil(shape.reduce((a, b) => a * b) / 4) * 4;
            const kept = shape.length > 1 ? 1 - rate * decay : 1;
            this.kernel.adamw(at, at + this.#toGradient, at + this.#toMoment, at + this.#toSquare, count, { ...by, kept });
        }
    }

    /** @param {string} name */
    #at(name) {
        return /** @type {Place} */ (this.#places.get(name)).at;
    }

    /** GPT-2's first weights, as Python's model has them. @param {number} seed */
    #begin(seed) {
        const normal = normals(seed);
        for (const [name, { shape, data }] of this.tensors("weight")) {
            if (shape.length === 1) data.fill(name.includes("ln_") && name.endsWith("weight") ? 1 : 0);
            const std = name.endsWith("c_proj.weight") ? STD / Math.sqrt(2 * this.shape.n_layer) : STD;
            if (shape.length > 1) for (let i = 0; i < data.length; i++) data[i] = std * normal();
        }
    }

    /** y = x W + b. @param {string} name @param {number} x @param {number} y @param {number} inner @param {number} outer */
    #linear(name, x, y, inner, outer) {
        const { R } = this.#sizes;
        this.kernel.product(y, { at: x, row: inner }, { at: this.#at(`${name}.weight`), row: outer }, R, outer, inner, outer, { bias: this.#at(`${name}.bias`) });
    }

    /** Its way back: the gradients of W and b, and in dx that of x. @param {string} name @param {number} x @param {number} dy @param {number} dx @param {number} inner @param {number} outer */
    #linearBack(name, x, dy, dx, inner, outer) {
        const { R } = this.#sizes;
        const [w, b] = [this.#at(`${name}.weight`), this.#at(`${name}.bias`)];
        this.kernel.addRows(b + this.#toGradient, dy, R, outer);
        this.kernel.product(w + this.#toGradient, { at: x, row: inner, isTurned: true }, { at: dy, row: outer }, inner, outer, R, outer);
        this.kernel.product(dx, { at: dy, row: outer }, { at: w, row: outer, isTurned: true }, R, inner, outer, inner);
    }

    /** @param {string} name @param {number} y @param {number} unit @param {number} scale @param {number} x */
    #norm(name, y, unit, scale, x) {
        this.kernel.norm(y, unit, scale, x, this.#at(`${name}.weight`), this.#at(`${name}.bias`), this.#sizes.R, this.#sizes.C, LAYER_NORM_EPSILON);
    }

    /** Adds to the gradients of the norm and of the stream before it. @param {string} name @param {number} d @param {number} unit @param {number} scale */
    #normBack(name, d, unit, scale) {
        const [w, b] = [this.#at(`${name}.weight`), this.#at(`${name}.bias`)];
        this.kernel.normBack(this.#back.stream, d, unit, scale, w, w + this.#toGradient, b + this.#toGradient, this.#sizes.R, this.#sizes.C);
    }

    /**
     * Leaves the probabilities of all tokens in #logits. Returns the summed loss.
     * @param {Int32Array} ids
     * @param {Int32Array} targets
     */
    #forward(ids, targets) {
        const { C, T, R, V } = this.#sizes;
        const [a, k] = [this.#numbers, this.kernel];
        const [wte, wpe] = [this.#at("wte.weight"), this.#at("wpe.weight")];
        for (let r = 0; r < R; r++) {
            const [token, position, x] = [wte + ids[r] * C, wpe + (r % T) * C, this.#stream + r * C];
            for (let i = 0; i < C; i++) a[x + i] = a[token + i] + a[position + i];
        }
        let x = this.#stream;
        this.#layers.forEach((y, n) => {
            this.#norm(`h.${n}.ln_1`, y.normed1, y.unit1, y.scale1, x);
            this.#linear(`h.${n}.attn.c_attn`, y.normed1, y.qkv, C, 3 * C);
            this.#attend(y);
            this.#linear(`h.${n}.attn.c_proj`, y.z, y.mid, C, C);
            k.add(y.mid, x, R * C);
            this.#norm(`h.${n}.ln_2`, y.normed2, y.unit2, y.scale2, y.mid);
            this.#linear(`h.${n}.mlp.c_fc`, y.normed2, y.slope, C, 4 * C);
            k.gelu(y.active, y.slope, R, 4 * C);
            this.#linear(`h.${n}.mlp.c_proj`, y.active, y.out, 4 * C, C);
            k.add(y.out, y.mid, R * C);
            x = y.out;
        });
        this.#norm("ln_f", this.#last.normed, this.#last.unit, this.#last.scale, x);
        k.product(this.#logits, { at: this.#last.normed, row: C }, { at: wte, row: C, isTurned: true }, R, V, C, V);
        for (let r = 0; r < R; r++) a.fill(NEVER, this.#logits + r * V + this.shape.vocab_size, this.#logits + (r + 1) * V);
        let total = 0;
        for (let r = 0; r < R; r++) if (targets[r] !== UNSCORED) total -= a[this.#logits + r * V + targets[r]];
        k.softmax(this.#logits, R, V, 1, this.#told, false);
        for (let r = 0; r < R; r++) if (targets[r] !== UNSCORED) total += a[this.#told + 2 * r] + Math.log(a[this.#told + 2 * r + 1]);
        return total;
    }

    /** @param {Passed} passed */
    #attend({ qkv, pattern, z }) {
        const { C, T, hs } = this.#sizes;
        const k = this.kernel;
        this.#eachHead((q, out, n) => {
            const p = pattern + n * T * T;
            k.product(p, { at: qkv + q, row: 3 * C }, { at: qkv + q + C, row: 3 * C, isTurned: true }, T, T, hs, T, CAUSAL_RESULT);
            k.softmax(p, T, T, 1 / Math.sqrt(hs), this.#told, true);
            k.product(z + out, { at: p, row: T }, { at: qkv + q + 2 * C, row: 3 * C }, T, hs, T, C, CAUSAL);
        });
    }

    /** From #back.narrow, the gradient of z, to #back.qkv. @param {Passed} passed */
    #attendBack({ qkv, pattern }) {
        const { C, T, hs } = this.#sizes;
        const { narrow: dz, qkv: d, pattern: dp } = this.#back;
        this.#eachHead((q, out, n) => {
            const p = pattern + n * T * T;
            const [keys, values] = [q + C, q + 2 * C];
            const given = { at: dz + out, row: C };
            this.kernel.product(dp, given, { at: qkv + values, row: 3 * C, isTurned: true }, T, T, hs, T, CAUSAL_RESULT);
            this.kernel.product(d + values, { at: p, row: T, isTurned: true }, given, T, hs, T, 3 * C, CAUSAL);
            this.kernel.softmaxBack(dp, p, T, T, 1 / Math.sqrt(hs));
            this.kernel.product(d + q, { at: dp, row: T }, { at: qkv + keys, row: 3 * C }, T, hs, T, 3 * C, CAUSAL);
            this.kernel.product(d + keys, { at: dp, row: T, isTurned: true }, { at: qkv + q, row: 3 * C }, T, hs, T, 3 * C, CAUSAL);
        });
    }

    /** @param {(q: number, z: number, n: number) => void} each place of its queries in qkv, of its part of z, its number */
    #eachHead(each) {
        const { C, T, hs } = this.#sizes;
        const { n_head } = this.shape;
        for (let b = 0; b < this.batch; b++) for (let h = 0; h < n_head; h++) each(b * T * 3 * C + h * hs, b * T * C + h * hs, b * n_head + h);
    }

    /** From the probabilities of the forward pass to all gradients. @param {Int32Array} ids @param {Int32Array} targets @param {number} scored of them */
    #backward(ids, targets, scored) {
        const { C, T, R, V } = this.#sizes;
        const [a, k, logits] = [this.#numbers, this.kernel, this.#logits];
        const { stream, narrow, qkv, wide } = this.#back;
        const [wte, wpe] = [this.#at("wte.weight"), this.#at("wpe.weight")].map((at) => at + this.#toGradient);
        for (let r = 0; r < R; r++) {
            const row = logits + r * V;
            if (targets[r] === UNSCORED) a.fill(0, row, row + V);
            else a[row + targets[r]] -= 1;
        }
        k.scale(logits, R * V, 1 / scored);
        a.fill(0, this.#first + this.#toGradient, this.#first + this.#toGradient + this.#count);
        a.fill(0, stream, stream + R * C);
        k.product(wte, { at: logits, row: V, isTurned: true }, { at: this.#last.normed, row: C }, V, C, R, C);
        k.product(narrow, { at: logits, row: V }, { at: this.#at("wte.weight"), row: C }, R, C, V, C);
        this.#normBack("ln_f", narrow, this.#last.unit, this.#last.scale);
        for (let n = this.#layers.length - 1; n >= 0; n--) {
            const y = this.#layers[n];
            this.#linearBack(`h.${n}.mlp.c_proj`, y.active, stream, wide, 4 * C, C);
            k.multiply(wide, y.slope, 4 * R * C);
            this.#linearBack(`h.${n}.mlp.c_fc`, y.normed2, wide, narrow, C, 4 * C);
            this.#normBack(`h.${n}.ln_2`, narrow, y.unit2, y.scale2);
            this.#linearBack(`h.${n}.attn.c_proj`, y.z, stream, narrow, C, C);
            this.#attendBack(y);
            this.#linearBack(`h.${n}.attn.c_attn`, y.normed1, qkv, narrow, C, 3 * C);
            this.#normBack(`h.${n}.ln_1`, narrow, y.unit1, y.scale1);
        }
        for (let r = 0; r < R; r++) {
            const [token, position, d] = [wte + ids[r] * C, wpe + (r % T) * C, stream + r * C];
            for (let i = 0; i < C; i++) {
                a[token + i] += a[d + i];
                a[position + i] += a[d + i];
            }
        }
    }
}
