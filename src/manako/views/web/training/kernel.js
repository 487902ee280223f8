/**
 * What the trainer computes with: products of matrices, and what happens to each number between two products, in
 * WebAssembly SIMD; the same in plain JavaScript where WebAssembly is refused, and there in float64 for who has to see
 * changes below the digits of float32.
 *
 * Special here: the bytes are kernel.wat, put in by scripts/assemble_kernel.py; a test compares the two. Places count
 * numbers, not bytes, and lie at multiples of 4. In WebAssembly nothing is fused or left to the browser, so that every
 * one of them trains the same bits; Math.exp of the other forms is the browser's own.
 */

/** Rows of a product are a multiple of 4, its columns of 8, the length of all else of 4. */
export const ROUND = 8;

/**
 * @typedef {object} TrainingKernel
 * @property {Float32Array | Float64Array} numbers of the wide one Float64Array
 * @property {KernelName} name
 * @property {(y: number, x: Side, w: Side, rows: number, columns: number, inner: number, yRow: number, how?: ProductHow) => void} product
 *     y[r][c] = bias[c] + sum over k of x[r][k] w[k][c]
 * @property {(y: number, x: number, n: number) => void} add y[i] += x[i]
 * @property {(y: number, x: number, rows: number, n: number) => void} addRows y += x[r], of every r
 * @property {(y: number, x: number, n: number) => void} multiply y[i] *= x[i]
 * @property {(x: number, n: number, by: number) => void} scale x[i] *= by
 * @property {(y: number, x: number, rows: number, n: number) => void} gelu y[i] = gelu_new(x[i]), x[i] = gelu_new'(x[i])
 * @property {(x: number, rows: number, n: number, scale: number, told: number, isTriangle: boolean) => void} softmax
 *     x[r] = softmax(scale x[r]), of a triangle of its first r + 1; told[r] = [the largest of scale x[r], the sum of exp of the rest]
 * @property {(d: number, p: number, rows: number, n: number, scale: number) => void} softmaxBack of a triangle
 * @property {(y: number, unit: number, scale: number, x: number, w: number, b: number, rows: number, n: number, epsilon: number) => void} norm
 *     LayerNorm: unit[r] = (x[r] - mean) scale[r], y[r] = unit[r] w + b
 * @property {(dx: number, d: number, unit: number, scale: number, w: number, dw: number, db: number, rows: number, n: number) => void} normBack
 *     adds to dx, dw and db
 * @property {(x: number, n: number) => number} squares
 * @property {(w: number, g: number, m: number, v: number, n: number, step: AdamStep) => void} adamw
 */
/** @typedef {"wasm" | "plain" | "wide"} KernelName */
/** @typedef {{at: number, row: number, isTurned?: boolean}} Side of a product: where it begins, from row to row as it lies in memory */
/**
 * triangle: of y if what lies right of its diagonal is not wanted; of x if there are zeros. It saves half the time.
 * @typedef {{bias?: number, triangle?: "y" | "x"}} ProductHow
 */
/**
 * @typedef {object} AdamStep
 * @property {number} clip what gradients are multiplied by
 * @property {number} kept what weights are multiplied by: their decay
 * @property {number} rate with the correction of the first moment in it
 * @property {number} root what the second moment's root is multiplied by: its correction
 */

export const BETA1 = 0.9;
export const BETA2 = 0.95;
const ADAM_EPSILON = 1e-8;
const GATE = 2 * Math.sqrt(2 / Math.PI); // gelu_new(x) = x sigmoid(GATE (x + CUBE x^3))
const CUBE = 0.044715;
const BYTES = "AGFzbQEAAAABhQEOYAF7AX1gAX8Bf2ACf38BfWADf399AGADf39/AGAEf39/fwBgBX9/f319AX1gBX9/f399AGAFf39/f38AYAZ/f399f38AYAp/f39/f39/f319AGAKf39/f39/f39/fQBgDX9/f39/fX19fX19fX0AYBJ/f39/f39/f39/f39/f39/f38AAhQBCHRyYWluaW5nBm1lbW9yeQIAAQMUEwYAAAgICA0EBQQDBQkBBwoLAgwHlgEPBHBhY2sAAwtwYWNrX3R1cm5lZAAECnBhY2tfZm91cnMABQdwcm9kdWN0AAYDYWRkAAcIYWRkX3Jvd3MACAhtdWx0aXBseQAJBXNjYWxlAAoEZ2VsdQALB3NvZnRtYXgADAxzb2Z0bWF4X2JhY2sADgRub3JtAA8Jbm9ybV9iYWNrABAHc3F1YXJlcwARBWFkYW13ABIKqRsTmgQHAXsBewF7AXsBewF7AXsgA/0TIQUgBP0TIQb9DAAAAAAAAAAAAAAAAAAAAAAhCwNAIAH9AAIAIAX95gEgBv3lASEHIAf9DAAArsIAAK7CAACuwgAArsL9RCEKIAf9DAAArsIAAK7CAACuwgAArsL96QH9DAAAsEIAALBCAACwQgAAsEL96AEhByAH/Qw7qrg/O6q4PzuquD87qrg//eYB/WohCCAHIAj9DACAMT8AgDE/AIAxPwCAMT/95gH95QEgCP0Mg4BeuYOAXrmDgF65g4Beuf3mAf3lASEJ/QwBDVA5AQ1QOQENUDkBDVA5IQcgByAJ/eYB/QxhC7Y6YQu2OmELtjphC7Y6/eQBIQcgByAJ/eYB/QyJiAg8iYgIPImICDyJiAg8/eQBIQcgByAJ/eYB/Qyrqio9q6oqPauqKj2rqio9/eQBIQcgByAJ/eYB/Qyrqio+q6oqPquqKj6rqio+/eQBIQcgByAJ/eYB/QwAAAA/AAAAPwAAAD8AAAA//eQBIQcgByAJ/eYB/QwAAIA/AACAPwAAgD8AAIA//eQBIQcgByAJ/eYB/QwAAIA/AACAPwAAgD8AAIA//eQBIQcgCiAHIAj9+AH9DH8AAAB/AAAAfwAAAH8AAAD9rgFBF/2rAf3mAf1OIQcgACAH/QsCACALIAf95AEhCyAAQRBqIQAgAUEQaiEBIAJBBGsiAg0ACyALEAELGQAgAP0fACAA/R8BkiAA/R8CIAD9HwOSkgsZACAA/R8AIAD9HwGXIAD9HwIgAP0fA5eXC1MCAX8BfwNAIAEhBSACIQYDQCAAIAX9AAIA/QsCACAAIAX9AAIQ/QsCECAAQSBqIQAgBSAEaiEFIAZBAWsiBg0ACyABQSBqIQEgA0EIayIDDQALC2sEAX8BfwF/AX8DQEEIIQcDQCABIQYgACEFIAIhCANAIAUgBioCADgCACAFQSBqIQUgBkEEaiEGIAhBAWsiCA0ACyAAQQRqIQAgASAEaiEBIAdBAWsiBw0ACyAFQRxrIQAgA0EIayIDDQALC0cCAX8BfwNAIAEhBSACIQYDQCAAIAX9AAIA/QsCACAAQRBqIQAgBSAEaiEFIAZBAWsiBg0ACyABQRBqIQEgA0EEayIDDQALC6MFGAF/AX8BfwF/AX8BfwF/AX8BfwF/AX8BewF7AXsBewF7AXsBewF7AXsBewF7AXsBewNAAkAgA0UNACAD/QACACEgIAP9AAIQISEgA0EgaiEDCyABIRIgACETIAQhFCACIRcgBiEVA0AgEiEZIBkgB2ohGiAaIAdqIRsgGyAHaiEcIBchGCAVIRYgICEiICEhIyAgISQgISElICAhJiAhIScgICEoICEhKQNAIBj9AAIAIR4gGP0AAhAhHyAZ/QkCACEdICIgHSAe/eYB/eQBISIgIyAdIB/95gH95AEhIyAa/QkCACEdICQgHSAe/eYB/eQBISQgJSAdIB/95gH95AEhJSAb/QkCACEdICYgHSAe/eYB/eQBISYgJyAdIB/95gH95AEhJyAc/QkCACEdICggHSAe/eYB/eQBISggKSAdIB/95gH95AEhKSAYQSBqIRggGSAIaiEZIBogCGohGiAbIAhqIRsgHCAIaiEcIBZBAWsiFg0ACwJAIBFFDQAgEyEZICIgGf0AAgD95AEhIiAjIBn9AAIQ/eQBISMgGSALaiEZICQgGf0AAgD95AEhJCAlIBn9AAIQ/eQBISUgGSALaiEZICYgGf0AAgD95AEhJiAnIBn9AAIQ/eQBIScgGSALaiEZICggGf0AAgD95AEhKCApIBn9AAIQ/eQBISkLIBMgIv0LAgAgEyAj/QsCECATIAtqIRMgEyAk/QsCACATICX9CwIQIBMgC2ohEyATICb9CwIAIBMgJ/0LAhAgEyALaiETIBMgKP0LAgAgEyAp/QsCECATIAtqIRMgEiAJaiESIBcgDWohFyAVIAxqIRUgFEEEayIUDQALIAIgCmohAiABIA9qIQEgACAQaiEAIAQgDmshBCAFQQhrIgUNAAsLMQADQCAAIAD9AAIAIAH9AAIA/eQB/QsCACAAQRBqIQAgAUEQaiEBIAJBBGsiAg0ACwsgAANAIAAgASADEAcgASADQQJ0aiEBIAJBAWsiAg0ACwsxAANAIAAgAP0AAgAgAf0AAgD95gH9CwIAIABBEGohACABQRBqIQEgAkEEayICDQALCygAA0AgACAA/QACACAC/RP95gH9CwIAIABBEGohACABQQRrIgENAAsL2gIFAX8BfwF/AXsBewNAIAEhBCAAIQUgAyEGA0AgBP0AAgAhByAFIAf9DCpCzL8qQsy/KkLMvypCzL/9DHkikj15IpI9eSKSPXkikj0gByAH/eYB/eYB/eUB/eYB/QsCACAEQRBqIQQgBUEQaiEFIAZBBGsiBg0ACyAAIAAgA0MAAIA/QwAAAAAQABogAyEGA0AgAf0AAgAhB/0MAACAPwAAgD8AAIA/AACAP/0MAACAPwAAgD8AAIA/AACAPyAA/QACAP3kAf3nASEIIAAgByAI/eYB/QsCACABIAggByAI/QwAAIA/AACAPwAAgD8AAIA/IAj95QH95gH95gH9DCpCzD8qQsw/KkLMPypCzD/9DLUzWz61M1s+tTNbPrUzWz4gByAH/eYB/eYB/eQB/eYB/eQB/QsCACABQRBqIQEgAEEQaiEAIAZBBGsiBg0ACyACQQFrIgINAAsLiQIHAX8BfwF/AX8BewF9AXsDQCACIQcCQCAFRQ0AIAYQDSEHIAcgBmtBAWshCSAJRQ0AIAAgBkECdGohCANAIAhDyvJJ8TgCBCAIQQRqIQggCUEBayIJDQALCyAAIQggByEJIAj9AAIAIQoDQCAKIAj9AAIA/ekBIQogCEEQaiEIIAlBBGsiCQ0ACyADIAoQApQhCyAEIAs4AgAgACAAIAcgAyALEAAhCyAEIAs4AgRDAACAPyALlf0TIQwgACEIIAchCQNAIAggCP0AAgAgDP3mAf0LAgAgCEEQaiEIIAlBBGsiCQ0ACyAAIAJBAnRqIQAgBEEIaiEEIAZBAWohBiABQQFrIgENAAsLCgAgAEEIakF4cQvaAQYBfwF/AX8BfwF/AXsDQCAFEA0hBiAAIQcgASEIIAYhCf0MAAAAAAAAAAAAAAAAAAAAACEKA0AgCiAH/QACACAI/QACAP3mAf3kASEKIAdBEGohByAIQRBqIQggCUEEayIJDQALIAoQAf0TIQogACEHIAEhCCAGIQkDQCAHIAT9EyAI/QACACAH/QACACAK/eUB/eYB/eYB/QsCACAHQRBqIQcgCEEQaiEIIAlBBGsiCQ0ACyAAIANBAnRqIQAgASADQQJ0aiEBIAVBAWohBSACQQFrIgINAAsLtQIGAX8BfwF9AXsBewF7A0D9DAAAAAAAAAAAAAAAAAAAAAAhDiADIQogByELA0AgDiAK/QACAP3kASEOIApBEGohCiALQQRrIgsNAAsgCCAOEAGU/RMhDf0MAAAAAAAAAAAAAAAAAAAAACEOIAMhCiAHIQsDQCAK/QACACAN/eUBIQ8gDiAPIA/95gH95AEhDiAKQRBqIQogC0EEayILDQALQwAAgD8gCSAIIA4QAZSSkZUhDCACIAw4AgBBACEKA0AgDP0TIAP9AAIAIA395QH95gEhDyABIA/9CwIAIAAgBSAKav0AAgAgDyAEIApq/QACAP3mAf3kAf0LAgAgCkEQaiEKIANBEGohAyAAQRBqIQAgAUEQaiEBIAogB0ECdEkNAAsgAkEEaiECIAZBAWsiBg0ACwvtAggBfwF/AX8BewF7AXsBewF7A0D9DAAAAAAAAAAAAAAAAAAAAAAhEP0MAAAAAAAAAAAAAAAAAAAAACERQQAhCiABIQsgAiEMA0AgDP0AAgAhDiAL/QACACENIAYgCmogBiAKav0AAgAgDf3kAf0LAgAgBSAKaiAFIApq/QACACANIA795gH95AH9CwIAIA0gBCAKav0AAgD95gEhDSAQIA395AEhECARIA0gDv3mAf3kASERIAtBEGohCyAMQRBqIQwgCkEQaiEKIAogCEECdEkNAAsgCSAQEAGU/RMhECAJIBEQAZT9EyERIAP9CQIAIQ9BACEKA0AgAf0AAgAgBCAKav0AAgD95gEhDSAAIAD9AAIAIA8gDSAQ/eUBIAL9AAIAIBH95gH95QH95gH95AH9CwIAIABBEGohACABQRBqIQEgAkEQaiECIApBEGohCiAKIAhBAnRJDQALIANBBGohAyAHQQFrIgcNAAsLRQEBe/0MAAAAAAAAAAAAAAAAAAAAACECA0AgAiAA/QACACAA/QACAP3mAf3kASECIABBEGohACABQQRrIgENAAsgAhABC8EBAwF7AXsBewNAIAH9AAIAIAX9E/3mASEPIAL9AAIAIQ0gDSAG/RMgDyAN/eUB/eYB/eQBIQ0gAiAN/QsCACAH/RMgA/0AAgD95gEgCP0TIA8gD/3mAf3mAf3kASEOIAMgDv0LAgAgACAJ/RMgAP0AAgD95gEgCv0TIA395gEgDv3jASAL/RP95gEgDP0T/eQB/ecB/eUB/QsCACAAQRBqIQAgAUEQaiEBIAJBEGohAiADQRBqIQMgBEEEayIEDQALCw==";
const PART = 256; // numbers of a sum that are added before the next ones: what both sides need for that stays in the cache
const NEAR = 8192; // numbers of the left side that all panels are multiplied with before the next
const WASM_PAGE = 65_536; // bytes of memory at a time

/**
 * A memory with room for so many numbers, and for the sides of products.
 * @param {number} size
 * @param {number} widest the most rows or columns that a product has
 * @param {number} triangle of a triangle
 * @param {KernelName} [wanted] plain JavaScript comes in place of WebAssembly where the browser refuses that
 * @returns {TrainingKernel}
 */
export function trainingKernel(size, widest, triangle, wanted = "wasm") {
    const simd = wanted === "wasm" ? inSimd(size, Math.max(PART * widest, triangle ** 2)) : null;
    return simd ?? (wanted === "wide" ? inScript(new Float64Array(size), wanted) : inScript(new Float32Array(size), "plain"));
}

/** @param {number} size @param {number} room for one side of a product @returns {TrainingKernel | null} null where the browser refuses */
function inSimd(size, room) {
    /** @type {Record<string, (...given: number[]) => any>} */
    let run;
    /** @type {WebAssembly.Memory} */
    let memory;
    try {
        memory = new WebAssembly.Memory({ initial: Math.ceil((4 * (size + 2 * room)) / WASM_PAGE) });
        const code = Uint8Array.from(atob(BYTES), (letter) => letter.charCodeAt(0));
        run = /** @type {any} */ (new WebAssembly.Instance(new WebAssembly.Module(code), { training: { memory } }).exports);
    } catch {
        return null; // no WebAssembly, no SIMD, or a policy that forbids it
    }
    const [panels, fours] = [4 * size, 4 * (size + room)]; // where both sides of a product lie in the order of its sums
    const plain = /** @type {ProductHow} */ ({});
    return {
        numbers: new Float32Array(memory.buffer),
        name: "wasm",
        product: (y, x, w, rows, columns, inner, yRow, { bias = 0, triangle } = plain) => {
            const part = triangle === "x" ? inner : PART;
            for (let k = 0; k < inner; k += part) {
                const size = Math.min(part, inner - k);
                (w.isTurned ? run.pack_turned : run.pack)(panels, 4 * (w.at + k * (w.isTurned ? 1 : w.row)), size, columns, 4 * w.row);
                const from = 4 * (x.at + k * (x.isTurned ? x.row : 1));
                if (x.isTurned) run.pack_fours(fours, from, size, rows, 4 * x.row);
                const [at, row, step, four] = x.isTurned ? [fours, 4, 16, 16 * size] : [from, 4 * x.row, 4, 16 * x.row];
                const less = triangle === "y" ? 8 : 0; // rows
                const [first, more, ahead] = triangle !== "x" ? [size, 0, 0] : x.isTurned ? [size, -4, 4] : [4, 4, 0];
                const most = triangle ? rows : Math.max(8, ROUND * Math.floor(NEAR / size / ROUND));
                for (let r = 0; r < rows; r += most) {
                    const [to, of, count] = [4 * (y + r * yRow), at + (r / 4) * four, Math.min(most, rows - r)];
                    run.product(to, of, panels, k ? 0 : 4 * bias, count, columns, first, row, step, four + ahead * step, 32 * size, 4 * yRow, more, 32 * ahead, less, (less / 4) * four, 32 + 4 * less * yRow, k);
                }
            }
        },
        add: (y, x, n) => run.add(4 * y, 4 * x, n),
        addRows: (y, x, rows, n) => run.add_rows(4 * y, 4 * x, rows, n),
        multiply: (y, x, n) => run.multiply(4 * y, 4 * x, n),
        scale: (x, n, by) => run.scale(4 * x, n, by),
        gelu: (y, x, rows, n) => run.gelu(4 * y, 4 * x, rows, n),
        softmax: (x, rows, n, scale, told, isTriangle) => run.softmax(4 * x, rows, n, scale, 4 * told, Number(isTriangle)),
        softmaxBack: (d, p, rows, n, scale) => run.softmax_back(4 * d, 4 * p, rows, n, scale),
        norm: (y, unit, scale, x, w, b, rows, n, epsilon) => run.norm(4 * y, 4 * unit, 4 * scale, 4 * x, 4 * w, 4 * b, rows, n, 1 / n, epsilon),
        normBack: (dx, d, unit, scale, w, dw, db, rows, n) => run.norm_back(4 * dx, 4 * d, 4 * unit, 4 * scale, 4 * w, 4 * dw, 4 * db, rows, n, 1 / n),
        squares: (x, n) => run.squares(4 * x, n),
        adamw: (w, g, m, v, n, { clip, kept, rate, root }) =>
            run.adamw(4 * w, 4 * g, 4 * m, 4 * v, n, clip, 1 - BETA1, BETA2, 1 - BETA2, kept, rate, root, ADAM_EPSILON),
    };
}

/** @param {Float32Array | Float64Array} a @param {KernelName} name @returns {TrainingKernel} */
function inScript(a, name) {
    const gate = (/** @type {number} */ x) => 1 / (1 + Math.exp(-GATE * (x + CUBE * x ** 3)));
    /** @type {TrainingKernel["add"]} */
    const add = (y, x, n) => {
        for (let i = 0; i < n; i++) a[y + i] += a[x + i];
    };
    return {
        numbers: a,
        name,
        product: (y, x, w, rows, columns, inner, yRow, { bias } = {}) => {
            const [xRow, xStep] = x.isTurned ? [1, x.row] : [x.row, 1];
            const [wRow, wStep] = w.isTurned ? [1, w.row] : [w.row, 1];
            for (let r = 0; r < rows; r++) {
                for (let c = 0; c < columns; c++) {
                    let sum = bias ? a[bias + c] : 0;
                    for (let k = 0; k < inner; k++) sum += a[x.at + r * xRow + k * xStep] * a[w.at + k * wRow + c * wStep];
                    a[y + r * yRow + c] = sum;
                }
            }
        },
        add,
        addRows: (y, x, rows, n) => {
            for (let r = 0; r < rows; r++) add(y, x + r * n, n);
        },
        multiply: (y, x, n) => {
            for (let i = 0; i < n; i++) a[y + i] *= a[x + i];
        },
        scale: (x, n, by) => {
            for (let i = x; i < x + n; i++) a[i] *= by;
        },
        gelu: (y, x, rows, n) => {
            for (let i = 0; i < rows * n; i++) {
                const [u, s] = [a[x + i], gate(a[x + i])];
                a[y + i] = u * s;
                a[x + i] = s + u * s * (1 - s) * GATE * (1 + 3 * CUBE * u * u);
            }
        },
        softmax: (x, rows, n, scale, told, isTriangle) => {
            for (let r = 0; r < rows; r++, x += n) {
                const end = x + (isTriangle ? r + 1 : n);
                let [most, sum] = [-Infinity, 0];
                for (let i = x; i < end; i++) most = Math.max(most, scale * a[i]);
                for (let i = x; i < end; i++) sum += a[i] = Math.exp(scale * a[i] - most);
                for (let i = x; i < end; i++) a[i] /= sum;
                a.fill(0, end, x + n);
                [a[told + 2 * r], a[told + 2 * r + 1]] = [most, sum];
            }
        },
        softmaxBack: (d, p, rows, n, scale) => {
            for (let r = 0; r < rows; r++, d += n, p += n) {
                let sum = 0;
                for (let i = 0; i <= r; i++) sum += a[d + i] * a[p + i];
                for (let i = 0; i < n; i++) a[d + i] = scale * a[p + i] * (a[d + i] - sum);
            }
        },
        norm: (y, unit, scale, x, w, b, rows, n, epsilon) => {
            for (let r = 0; r < rows; r++, x += n, y += n, unit += n) {
                let [sum, square] = [0, 0];
                for (let i = 0; i < n; i++) sum += a[x + i];
                const mean = sum / n;
                for (let i = 0; i < n; i++) square += (a[x + i] - mean) ** 2;
                const by = (a[scale + r] = 1 / Math.sqrt(square / n + epsilon));
                for (let i = 0; i < n; i++) a[y + i] = (a[unit + i] = (a[x + i] - mean) * by) * a[w + i] + a[b + i];
            }
        },
        normBack: (dx, d, unit, scale, w, dw, db, rows, n) => {
            for (let r = 0; r < rows; r++, dx += n, d += n, unit += n) {
                let [mean, along] = [0, 0];
                for (let i = 0; i < n; i++) {
                    const e = a[d + i] * a[w + i];
                    a[dw + i] += a[d + i] * a[unit + i];
                    a[db + i] += a[d + i];
                    mean += e / n;
                    along += (e * a[unit + i]) / n;
                }
                for (let i = 0; i < n; i++) a[dx + i] += a[scale + r] * (a[d + i] * a[w + i] - mean - a[unit + i] * along);
            }
        },
        squares: (x, n) => {
            let sum = 0;
            for (let i = x; i < x + n; i++) sum += a[i] * a[i];
            return sum;
        },
        adamw: (w, g, m, v, n, { clip, kept, rate, root }) => {
            for (let i = 0; i < n; i++) {
                const by = a[g + i] * clip;
                a[m + i] += (1 - BETA1) * (by - a[m + i]);
                a[v + i] = BETA2 * a[v + i] + (1 - BETA2) * by * by;
                a[w + i] = kept * a[w + i] - (rate * a[m + i]) / (Math.sqrt(a[v + i]) * root + ADAM_EPSILON);
            }
        },
    };
}
