/**
 * GPT-2's forward pass as `manako.families.gpt2` has it, one product apart in plain JavaScript over one memory.
 *
 * Special here: numbers are float32 wherever they rest, in rows padded with zeros to what the product takes at a time;
 * what is not a product is computed in float64 on the way. Matrices lie as [out, in], so a file's [in, out] is turned
 * once. Values are cached turned too, so that what a head reads is the same product. Sums are added up in another order
 * than NumPy's: logits agree within 1e-5. tests/views/web/test_engine.py compares the two.
 *
 * Letters: T tokens given, P tokens cached, K = P + T, C = n_embd, nh heads, hs the size of one, V logits.
 */

/** @import {Kernel} from "./kernel.js" */
/** @import {Tensors} from "./model-file.js" */
import { ACTIVATION } from "./nonlinear.js";
import { LANES, kernel } from "./kernel.js";

/**
 * The shape, in the names of config.json.
 * @typedef {object} Config
 * @property {number} n_layer
 * @property {number} n_head
 * @property {number} n_embd
 * @property {number} n_positions
 * @property {number} vocab_size
 * @property {number | null} n_inner
 * @property {keyof typeof ACTIVATION} activation_function
 * @property {number} layer_norm_epsilon
 * @property {boolean} tie_word_embeddings
 * @property {boolean} residual ablation switch: off drops `x +` from both halves of every block
 * @property {"pre" | "post"} norm ablation switch: where the LayerNorms of a block stand
 * @property {boolean} attention ablation switch: off leaves each block its MLP alone
 */
/** @typedef {{w: number, b: number, width: number, rows: number}} Linear places of a matrix [rows, width] and its bias */
/** @typedef {{weight: number, bias: number}} Norm */
/**
 * @typedef {object} Block
 * @property {Norm} ln_1
 * @property {Norm} ln_2
 * @property {Linear} c_attn
 * @property {Linear} c_proj
 * @property {Linear} c_fc
 * @property {Linear} out of the MLP
 * @property {number} keys cached, [nh, room, hs]
 * @property {number} values cached, [nh, hs, room]
 */
/**
 * What a pass keeps of its last token, in the names of TransformerLens, and the rows of attention.
 * @typedef {object} Kept
 * @property {boolean} allRows whether the rows of every given token are wanted
 * @property {Float32Array[]} rows of attention, [L, nh, keys] each, the last token's last
 * @property {Float32Array[]} embed [C] each: of the token and of its position
 * @property {Float32Array[]} z [C] a layer: what its heads read
 * @property {Float32Array[]} mlpOut [C] a layer
 * @property {Float32Array[]} residual [C] each: before the first block and behind every one
 */

const ROWS = 32; // tokens that pass a layer together: a row of a matrix is read once for all of them

/** A model with its weights, and the text that its cache holds. */
export class GPT2 {
    /**
     * @param {Config} config
     * @param {Tensors} tensors by HF name without "transformer."
     * @param {boolean} [exact] sums in float64, whatever the browser can
     */
    constructor(config, tensors, exact = false) {
        this.config = config;
        const { n_layer, n_head, n_embd: C, n_positions, vocab_size: V } = config;
        const hidden = config.n_inner || 4 * C;
        this.#width = roomFor(C);
        this.#headSize = C / n_head;
        this.#room = roomFor(n_positions);
        let size = 0;
        const take = (/** @type {number} */ count) => (size += roomFor(count)) - roomFor(count);
        /** @type {(() => void)[]} what puts the weights in, once there is a memory */
        const fill = [];
        const linear = (/** @type {string} */ name, /** @type {number} */ inner, /** @type {number} */ rows) => {
            const width = roomFor(inner);
            const found = { w: take(rows * width), b: take(rows), width, rows };
            fill.push(() => this.#turn(tensors.read(`${name}.weight`), inner, found));
            fill.push(() => this.#numbers.set(tensors.read(`${name}.bias`), found.b));
            return found;
        };
        const vector = (/** @type {string} */ name) => {
            const place = take(C);
            fill.push(() => this.#numbers.set(tensors.read(name), place));
            return place;
        };
        const norm = (/** @type {string} */ name) => ({ weight: vector(`${name}.weight`), bias: vector(`${name}.bias`) });
        const rows = (/** @type {string} */ name, /** @type {number} */ count) => {
            const place = take(count * this.#width);
            fill.push(() => this.#copyRows(tensors.read(name), place));
            return place;
        };
        this.#wte = rows("wte.weight", V);
        this.#wpe = rows("wpe.weight", n_positions);
        const none = { w: 0, b: 0, width: 0, rows: 0 };
        this.#blocks = Array.from({ length: n_layer }, (_, i) => ({
            ln_1: config.attention ? norm(`h.${i}.ln_1`) : { weight: 0, bias: 0 },
            c_attn: config.attention ? linear(`h.${i}.attn.c_attn`, C, 3 * C) : none,
            c_proj: config.attention ? linear(`h.${i}.attn.c_proj`, C, C) : none,
            ln_2: norm(`h.${i}.ln_2`),
            c_fc: linear(`h.${i}.mlp.c_fc`, C, hidden),
            out: linear(`h.${i}.mlp.c_proj`, hidden, C),
            keys: config.attention ? take(n_head * this.#room * roomFor(this.#headSize)) : 0,
            values: config.attention ? take(n_head * this.#headSize * this.#room) : 0,
        }));
        this.#final = norm("ln_f");
        this.#head = config.tie_word_embeddings ? this.#wte : rows("lm_head.weight", V);
        this.#x = take(ROWS * this.#width);
        this.#given = take(ROWS * this.#width);
        this.#output = take(ROWS * this.#width);
        this.#qkv = take(ROWS * roomFor(3 * C));
        this.#hidden = take(ROWS * roomFor(hidden));
        this.#scores = take(this.#room);
        const most = Math.max(n_layer + 1, n_head); // rows of one call from outside
        this.#asked = take(most * this.#width);
        this.#answer = take(most * Math.max(V, this.#width));
        this.kernel = kernel(size, exact);
        this.#numbers = this.kernel.numbers;
        for (const each of fill) each();
    }

    /** @type {Kernel} */
    kernel;
    /** @type {Float32Array} */
    #numbers;
    /** @type {number[]} the tokens whose keys and values are cached */
    #cached = [];
    /** @type {{direction: Float64Array, constant: number} | null} */
    #meanReadout = null;
    /** @type {Block[]} */
    #blocks;
    #width;
    #headSize;
    #room;
    #wte;
    #wpe;
    #final;
    #head;
    #x;
    #given;
    #output;
    #qkv;
    #hidden;
    #scores;
    #asked;
    #answer;

    /**
     * The row [V] that follows a whole text, valid until the next call, and the first token that the model saw: past the
     * context the last n_positions tokens are computed anew, since every position has changed.
     * @param {readonly number[]} ids
     * @param {Kept | null} [kept] filled on the way
     * @param {boolean} [anew] use nothing that is cached
     */
    next(ids, kept = null, anew = false) {
        const start = Math.max(0, ids.length - this.config.n_positions);
        const seen = start ? ids.slice(start) : ids;
        let same = 0;
        if (!anew && !kept?.allRows) while (same < seen.length - 1 && this.#cached[same] === seen[same]) same++;
        this.#cached.length = same;
        for (let at = same; at < seen.length; at += ROWS) {
            const batch = seen.slice(at, at + ROWS);
            this.#pass(batch, kept, at + ROWS >= seen.length);
            this.#cached.push(...batch);
        }
        const last = this.#x + ((seen.length - same - 1) % ROWS) * this.#width;
        return { logits: this.unembed([this.#numbers.slice(last, last + this.config.n_embd)])[0], start };
    }

    /**
     * What the final norm and the output matrix say of some rows [C] of the residual stream, each with its own scale;
     * valid until the next call.
     * @param {readonly Float32Array[]} rows at most L + 1
     * @returns {Float32Array[]} [V] each
     */
    unembed(rows) {
        const { vocab_size: V } = this.config;
        rows.forEach((row, i) => {
            const at = this.#asked + i * this.#width;
            this.#numbers.set(row, at);
            this.#norm(this.#final, at, at);
        });
        this.kernel.product(this.#answer, this.#head, this.#asked, V, this.#width, this.#width, rows.length, this.#width, V);
        return rows.map((_, i) => this.#numbers.subarray(this.#answer + i * V, this.#answer + (i + 1) * V));
    }

    /**
     * What each head of a layer wrote: its part of z through the output matrix, without the bias.
     * @param {number} i the layer
     * @param {Float32Array} z [C] what the heads read
     * @returns {Float32Array[]} [C] each
     */
    headsOut(i, z) {
        const { n_head, n_embd: C } = this.config;
        const { w } = this.#blocks[i].c_proj;
        this.#numbers.fill(0, this.#asked, this.#asked + n_head * this.#width);
        for (let h = 0; h < n_head; h++) {
            const own = h * this.#headSize;
            this.#numbers.set(z.subarray(own, own + this.#headSize), this.#asked + h * this.#width + own);
        }
        this.kernel.product(this.#answer, w, this.#asked, C, this.#width, this.#width, n_head, this.#width, C);
        return Array.from({ length: n_head }, (_, h) => this.#numbers.slice(this.#answer + h * C, this.#answer + (h + 1) * C));
    }

    /** The bias of a layer's output matrix. @param {number} i */
    outputBias(i) {
        const { b } = this.#blocks[i].c_proj;
        return this.#numbers.subarray(b, b + this.config.n_embd);
    }

    /**
     * The direction in the residual stream that raises a token's logit, the norm's scale apart, and the part of that
     * logit which no row changes.
     * @param {number} id
     * @returns {{direction: Float64Array, constant: number}}
     */
    readout(id) {
        const row = this.#head + id * this.#width;
        return this.#readout(this.#numbers.subarray(row, row + this.config.n_embd));
    }

    /** The mean of that over all tokens of the vocabulary, which takes as long as some passes: worked out once. */
    get meanReadout() {
        if (this.#meanReadout) return this.#meanReadout;
        const { n_embd, vocab_size } = this.config;
        const mean = new Float64Array(n_embd);
        for (let id = 0, row = this.#head; id < vocab_size; id++, row += this.#width) {
            for (let i = 0; i < n_embd; i++) mean[i] += this.#numbers[row + i] / vocab_size;
        }
        return (this.#meanReadout = this.#readout(mean));
    }

    /** @param {Float32Array | Float64Array} row [C] of the output matrix */
    #readout(row) {
        const [numbers, { weight, bias }, C] = [this.#numbers, this.#final, row.length];
        const direction = new Float64Array(C);
        let [sum, constant] = [0, 0];
        for (let i = 0; i < C; i++) {
            sum += direction[i] = row[i] * numbers[weight + i];
            constant += row[i] * numbers[bias + i];
        }
        for (let i = 0; i < C; i++) direction[i] -= sum / C;
        return { direction, constant };
    }

    /**
     * A batch of tokens behind the cached ones; leaves their last residual stream in #x.
     * @param {readonly number[]} ids
     * @param {Kept | null} kept
     * @param {boolean} isLast whether the text ends with this batch
     */
    #pass(ids, kept, isLast) {
        const { n_layer, n_head, n_embd: C, residual, norm, attention } = this.config;
        const [numbers, T, P, width] = [this.#numbers, ids.length, this.#cached.length, this.#width];
        const copy = (/** @type {number} */ place) => numbers.slice(place, place + C);
        const last = (T - 1) * width;
        ids.forEach((id, t) => {
            const [token, position, x] = [this.#wte + id * width, this.#wpe + (P + t) * width, this.#x + t * width];
            for (let i = 0; i < C; i++) numbers[x + i] = numbers[token + i] + numbers[position + i];
            if (kept && isLast && t === T - 1) kept.embed = [copy(token), copy(position)];
        });
        /** @type {Float32Array[]} of this batch */
        const rows = kept && attention ? ids.map((_, t) => new Float32Array(n_layer * n_head * (P + t + 1))) : [];
        const isKept = kept !== null && isLast;
        if (isKept) kept.residual.push(copy(this.#x + last));
        this.#blocks.forEach((block, i) => {
            if (attention) {
                this.#linear(block.c_attn, norm === "pre" ? this.#normed(block.ln_1, T) : this.#x, this.#qkv, T);
                this.#attend(block, T, P, rows, i);
                if (isKept) kept.z.push(copy(this.#given + last));
                this.#linear(block.c_proj, this.#given, this.#output, T);
                this.#onto(T, residual);
                if (norm === "post") for (let t = 0; t < T; t++) this.#norm(block.ln_1, this.#x + t * width, this.#x + t * width);
            }
            this.#linear(block.c_fc, norm === "pre" ? this.#normed(block.ln_2, T) : this.#x, this.#hidden, T);
            this.#activate(block.c_fc.rows, T);
            this.#linear(block.out, this.#hidden, this.#output, T);
            if (isKept) kept.mlpOut.push(copy(this.#output + last));
            this.#onto(T, residual);
            if (norm === "post") for (let t = 0; t < T; t++) this.#norm(block.ln_2, this.#x + t * width, this.#x + t * width);
            if (isKept) kept.residual.push(copy(this.#x + last));
        });
        if (kept) kept.rows.push(...(kept.allRows ? rows : isLast ? rows.slice(-1) : []));
    }

    /**
     * Every token looks at itself and the past; leaves what the heads read in #given.
     * @param {Block} block
     * @param {number} T
     * @param {number} P
     * @param {readonly Float32Array[]} rows where the patterns go; none where they are not wanted
     * @param {number} layer
     */
    #attend({ keys, values }, T, P, rows, layer) {
        const { n_head, n_embd: C } = this.config;
        const [numbers, hs, room, scores] = [this.#numbers, this.#headSize, this.#room, this.#scores];
        const [span, wide] = [roomFor(hs), roomFor(3 * C)];
        const scale = 1 / Math.sqrt(hs);
        for (let t = 0; t < T; t++) {
            const row = this.#qkv + t * wide;
            for (let h = 0; h < n_head; h++) {
                const [key, value] = [keys + (h * room + P + t) * span, values + h * hs * room + P + t];
                for (let i = 0; i < hs; i++) {
                    numbers[key + i] = numbers[row + C + h * hs + i];
                    numbers[value + i * room] = numbers[row + 2 * C + h * hs + i];
                }
            }
        }
        for (let t = 0; t < T; t++) {
            const K = P + t + 1;
            for (let h = 0; h < n_head; h++) {
                this.kernel.product(scores, keys + h * room * span, this.#qkv + t * wide + h * hs, K, span, span);
                let [largest, total] = [-Infinity, 0];
                for (let k = scores; k < scores + K; k++) if (numbers[k] > largest) largest = numbers[k];
                for (let k = scores; k < scores + K; k++) total += numbers[k] = Math.exp((numbers[k] - largest) * scale);
                for (let k = scores; k < scores + K; k++) numbers[k] /= total;
                numbers.fill(0, scores + K, scores + roomFor(K));
                rows[t]?.set(numbers.subarray(scores, scores + K), (layer * n_head + h) * K);
                this.kernel.product(this.#given + t * this.#width + h * hs, values + h * hs * room, scores, hs, roomFor(K), room);
            }
        }
    }

    /**
     * @param {Linear} linear
     * @param {number} x [T, in]
     * @param {number} y [T, out]
     * @param {number} T
     */
    #linear({ w, b, width, rows }, x, y, T) {
        const step = roomFor(rows);
        this.kernel.product(y, w, x, rows, width, width, T, width, step);
        for (let t = 0; t < T; t++) for (let r = 0; r < rows; r++) this.#numbers[y + t * step + r] += this.#numbers[b + r];
    }

    /** All rows of the stream through a norm. @param {Norm} norm @param {number} T @returns {number} where they are */
    #normed(norm, T) {
        for (let t = 0; t < T; t++) this.#norm(norm, this.#x + t * this.#width, this.#given + t * this.#width);
        return this.#given;
    }

    /** LayerNorm of one row. Source: Ba et al. 2016, arXiv:1607.06450. @param {Norm} norm @param {number} x @param {number} y */
    #norm({ weight, bias }, x, y) {
        const { n_embd: C, layer_norm_epsilon } = this.config;
        const numbers = this.#numbers;
        const { mean, scale } = moments(numbers.subarray(x, x + C), layer_norm_epsilon);
        for (let i = 0; i < C; i++) numbers[y + i] = (numbers[x + i] - mean) * scale * numbers[weight + i] + numbers[bias + i];
    }

    /** What a part of a block wrote onto the stream. @param {number} T @param {boolean} residual */
    #onto(T, residual) {
        const [numbers, x, output] = [this.#numbers, this.#x, this.#output];
        for (let i = 0; i < T * this.#width; i++) numbers[x + i] = numbers[output + i] + (residual ? numbers[x + i] : 0);
    }

    /** @param {number} count numbers of a row @param {number} T */
    #activate(count, T) {
        const activation = ACTIVATION[this.config.activation_function];
        const [numbers, step] = [this.#numbers, roomFor(count)];
        for (let t = 0; t < T; t++) {
            const at = this.#hidden + t * step;
            for (let i = at; i < at + count; i++) numbers[i] = activation(numbers[i]);
        }
    }

    /** A file's matrix [in, out] as [out, in]. @param {Float32Array} given @param {number} inner @param {Linear} to */
    #turn(given, inner, { w, width, rows }) {
        for (let r = 0; r < rows; r++) for (let i = 0; i < inner; i++) this.#numbers[w + r * width + i] = given[i * rows + r];
    }

    /** Rows [C] as padded ones. @param {Float32Array} given @param {number} place */
    #copyRows(given, place) {
        const { n_embd: C } = this.config;
        for (let r = 0; r < given.length / C; r++) this.#numbers.set(given.subarray(r * C, (r + 1) * C), place + r * this.#width);
    }
}

/**
 * What a LayerNorm takes from a row and multiplies it by, its weight apart.
 * @param {Float32Array} row
 * @param {number} epsilon
 */
export function moments(row, epsilon) {
    let [sum, squares] = [0, 0];
    for (let i = 0; i < row.length; i++) sum += row[i];
    const mean = sum / row.length;
    for (let i = 0; i < row.length; i++) squares += (row[i] - mean) ** 2;
    return { mean, scale: 1 / Math.sqrt(squares / row.length + epsilon) };
}

/** @returns {Kept} @param {boolean} allRows */
export function toKeep(allRows) {
    return { allRows, rows: [], embed: [], z: [], mlpOut: [], residual: [] };
}

/** The next multiple of what the product takes at a time. @param {number} count */
function roomFor(count) {
    return Math.ceil(count / LANES) * LANES;
}
