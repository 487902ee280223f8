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
 * @property {(y: number, x: Side, w: Side, rows: number, columns: number, inner: number, yRow: number, adds?: boolean) => void} product
 *     y[r][c] (+)= sum over k of x[r][k] w[k][c]
 * @property {(y: number, x: number, n: number) => void} add y[i] += x[i]
 * @property {(y: number, x: number, rows: number, n: number) => void} addRow y[r] += x
 * @property {(y: number, x: number, rows: number, n: number) => void} addRows y += x[r], of every r
 * @property {(y: number, x: number, n: number) => void} gelu y[i] = gelu_new(x[i])
 * @property {(d: number, x: number, n: number) => void} geluBack d[i] *= gelu_new'(x[i])
 * @property {(x: number, rows: number, n: number, scale: number, told: number) => void} softmax
 *     x[r] = softmax(scale x[r]); told[r] = [the largest of scale x[r], the sum of exp of the rest]
 * @property {(d: number, p: number, rows: number, n: number, scale: number) => void} softmaxBack
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
const BYTES = "AGFzbQEAAAABbQxgAXsBe2ABewF9YAJ/fwF9YAN/f38AYAR/f39/AGAFf39/fX8AYAV/f39/fQBgBX9/f39/AGAKf39/f39/f399fQBgCn9/f39/f39/f30AYAp/f39/f39/f39/AGANf39/f399fX19fX19fQACFAEIdHJhaW5pbmcGbWVtb3J5AgABAxMSAAEBAAcHCgMEBAMDBQYICQILB4wBDgRwYWNrAAQLcGFja190dXJuZWQABQdwcm9kdWN0AAYDYWRkAAcHYWRkX3JvdwAICGFkZF9yb3dzAAkEZ2VsdQAKCWdlbHVfYmFjawALB3NvZnRtYXgADAxzb2Z0bWF4X2JhY2sADQRub3JtAA4Jbm9ybV9iYWNrAA8Hc3F1YXJlcwAQBWFkYW13ABEKgxkSrwMDAXsBewF7IAD9DAAArsIAAK7CAACuwgAArsL9RCEDIAD9DAAArsIAAK7CAACuwgAArsL96QH9DAAAsEIAALBCAACwQgAAsEL96AEhACAA/Qw7qrg/O6q4PzuquD87qrg//eYB/WohASAAIAH9DACAMT8AgDE/AIAxPwCAMT/95gH95QEgAf0Mg4BeuYOAXrmDgF65g4Beuf3mAf3lASEC/QwBDVA5AQ1QOQENUDkBDVA5IQAgACAC/eYB/QxhC7Y6YQu2OmELtjphC7Y6/eQBIQAgACAC/eYB/QyJiAg8iYgIPImICDyJiAg8/eQBIQAgACAC/eYB/Qyrqio9q6oqPauqKj2rqio9/eQBIQAgACAC/eYB/Qyrqio+q6oqPquqKj6rqio+/eQBIQAgACAC/eYB/QwAAAA/AAAAPwAAAD8AAAA//eQBIQAgACAC/eYB/QwAAIA/AACAPwAAgD8AAIA//eQBIQAgACAC/eYB/QwAAIA/AACAPwAAgD8AAIA//eQBIQAgAyAAIAH9+AH9DH8AAAB/AAAAfwAAAH8AAAD9rgFBF/2rAf3mAf1OCxkAIAD9HwAgAP0fAZIgAP0fAiAA/R8DkpILGQAgAP0fACAA/R8BlyAA/R8CIAD9HwOXlwtkAP0MAACAPwAAgD8AAIA/AACAP/0MAACAPwAAgD8AAIA/AACAPyAA/QwqQsy/KkLMvypCzL8qQsy//Qx5IpI9eSKSPXkikj15IpI9IAAgAP3mAf3mAf3lAf3mARAA/eQB/ecBC1MCAX8BfwNAIAEhBSACIQYDQCAAIAX9AAIA/QsCACAAIAX9AAIQ/QsCECAAQSBqIQAgBSAEaiEFIAZBAWsiBg0ACyABQSBqIQEgA0EIayIDDQALC2sEAX8BfwF/AX8DQEEIIQcDQCABIQYgACEFIAIhCANAIAUgBioCADgCACAFQSBqIQUgBkEEaiEGIAhBAWsiCA0ACyAAQQRqIQAgASAEaiEBIAdBAWsiBw0ACyAFQRxrIQAgA0EIayIDDQALC9UFFAF/AX8BfwF/AX8BfwF/AX8BfwF7AXsBewF7AXsBewF7AXsBewF7AXsDQCABIQogACELIAMhDANAIAohDyAPIAZqIRAgECAGaiERIBEgBmohEiASIAZqIQogAiEOIAUhDf0MAAAAAAAAAAAAAAAAAAAAACEW/QwAAAAAAAAAAAAAAAAAAAAAIRf9DAAAAAAAAAAAAAAAAAAAAAAhGP0MAAAAAAAAAAAAAAAAAAAAACEZ/QwAAAAAAAAAAAAAAAAAAAAAIRr9DAAAAAAAAAAAAAAAAAAAAAAhG/0MAAAAAAAAAAAAAAAAAAAAACEc/QwAAAAAAAAAAAAAAAAAAAAAIR0DQCAO/QACACEUIA79AAIQIRUgD/0JAgAhEyAWIBMgFP3mAf3kASEWIBcgEyAV/eYB/eQBIRcgEP0JAgAhEyAYIBMgFP3mAf3kASEYIBkgEyAV/eYB/eQBIRkgEf0JAgAhEyAaIBMgFP3mAf3kASEaIBsgEyAV/eYB/eQBIRsgEv0JAgAhEyAcIBMgFP3mAf3kASEcIB0gEyAV/eYB/eQBIR0gDkEgaiEOIA8gB2ohDyAQIAdqIRAgESAHaiERIBIgB2ohEiANQQFrIg0NAAsCQCAJRQ0AIAshDyAWIA/9AAIA/eQBIRYgFyAP/QACEP3kASEXIA8gCGohDyAYIA/9AAIA/eQBIRggGSAP/QACEP3kASEZIA8gCGohDyAaIA/9AAIA/eQBIRogGyAP/QACEP3kASEbIA8gCGohDyAcIA/9AAIA/eQBIRwgHSAP/QACEP3kASEdCyALIBb9CwIAIAsgF/0LAhAgCyAIaiELIAsgGP0LAgAgCyAZ/QsCECALIAhqIQsgCyAa/QsCACALIBv9CwIQIAsgCGohCyALIBz9CwIAIAsgHf0LAhAgCyAIaiELIAxBBGsiDA0ACyAOIQIgAEEgaiEAIARBCGsiBA0ACwsxAANAIAAgAP0AAgAgAf0AAgD95AH9CwIAIABBEGohACABQRBqIQEgAkEEayICDQALCyAAA0AgACABIAMQByAAIANBAnRqIQAgAkEBayICDQALCyAAA0AgACABIAMQByABIANBAnRqIQEgAkEBayICDQALCzUBAXsDQCAB/QACACEDIAAgAyADEAP95gH9CwIAIABBEGohACABQRBqIQEgAkEEayICDQALC5cBAgF7AXsDQCAB/QACACEDIAMQAyEEIAAgAP0AAgAgBCADIAT9DAAAgD8AAIA/AACAPwAAgD8gBP3lAf3mAf3mAf0MKkLMPypCzD8qQsw/KkLMP/0MtTNbPrUzWz61M1s+tTNbPiADIAP95gH95gH95AH95gH95AH95gH9CwIAIABBEGohACABQRBqIQEgAkEEayICDQALC/4BBgF/AX8BewF7AXsBfQNAIAAhBSACIQYgBf0AAgAhBwNAIAcgBf0AAgD96QEhByAFQRBqIQUgBkEEayIGDQALIAMgBxAClCEKIAQgCjgCACAK/RMhB/0MAAAAAAAAAAAAAAAAAAAAACEIIAAhBSACIQYDQCAF/QACACAD/RP95gEgB/3lARAAIQkgBSAJ/QsCACAIIAn95AEhCCAFQRBqIQUgBkEEayIGDQALIAgQASEKIAQgCjgCBEMAAIA/IAqV/RMhCCACIQYDQCAAIAD9AAIAIAj95gH9CwIAIABBEGohACAGQQRrIgYNAAsgBEEIaiEEIAFBAWsiAQ0ACwutAQQBfwF/AX8BewNAIAAhBSABIQYgAyEH/QwAAAAAAAAAAAAAAAAAAAAAIQgDQCAIIAX9AAIAIAb9AAIA/eYB/eQBIQggBUEQaiEFIAZBEGohBiAHQQRrIgcNAAsgCBAB/RMhCCADIQcDQCAAIAT9EyAB/QACACAA/QACACAI/eUB/eYB/eYB/QsCACAAQRBqIQAgAUEQaiEBIAdBBGsiBw0ACyACQQFrIgINAAsLtQIGAX8BfwF9AXsBewF7A0D9DAAAAAAAAAAAAAAAAAAAAAAhDiADIQogByELA0AgDiAK/QACAP3kASEOIApBEGohCiALQQRrIgsNAAsgCCAOEAGU/RMhDf0MAAAAAAAAAAAAAAAAAAAAACEOIAMhCiAHIQsDQCAK/QACACAN/eUBIQ8gDiAPIA/95gH95AEhDiAKQRBqIQogC0EEayILDQALQwAAgD8gCSAIIA4QAZSSkZUhDCACIAw4AgBBACEKA0AgDP0TIAP9AAIAIA395QH95gEhDyABIA/9CwIAIAAgBSAKav0AAgAgDyAEIApq/QACAP3mAf3kAf0LAgAgCkEQaiEKIANBEGohAyAAQRBqIQAgAUEQaiEBIAogB0ECdEkNAAsgAkEEaiECIAZBAWsiBg0ACwvtAggBfwF/AX8BewF7AXsBewF7A0D9DAAAAAAAAAAAAAAAAAAAAAAhEP0MAAAAAAAAAAAAAAAAAAAAACERQQAhCiABIQsgAiEMA0AgDP0AAgAhDiAL/QACACENIAYgCmogBiAKav0AAgAgDf3kAf0LAgAgBSAKaiAFIApq/QACACANIA795gH95AH9CwIAIA0gBCAKav0AAgD95gEhDSAQIA395AEhECARIA0gDv3mAf3kASERIAtBEGohCyAMQRBqIQwgCkEQaiEKIAogCEECdEkNAAsgCSAQEAGU/RMhECAJIBEQAZT9EyERIAP9CQIAIQ9BACEKA0AgAf0AAgAgBCAKav0AAgD95gEhDSAAIAD9AAIAIA8gDSAQ/eUBIAL9AAIAIBH95gH95QH95gH95AH9CwIAIABBEGohACABQRBqIQEgAkEQaiECIApBEGohCiAKIAhBAnRJDQALIANBBGohAyAHQQFrIgcNAAsLRQEBe/0MAAAAAAAAAAAAAAAAAAAAACECA0AgAiAA/QACACAA/QACAP3mAf3kASECIABBEGohACABQQRrIgENAAsgAhABC8EBAwF7AXsBewNAIAH9AAIAIAX9E/3mASEPIAL9AAIAIQ0gDSAG/RMgDyAN/eUB/eYB/eQBIQ0gAiAN/QsCACAH/RMgA/0AAgD95gEgCP0TIA8gD/3mAf3mAf3kASEOIAMgDv0LAgAgACAJ/RMgAP0AAgD95gEgCv0TIA395gEgDv3jASAL/RP95gEgDP0T/eQB/ecB/eUB/QsCACAAQRBqIQAgAUEQaiEBIAJBEGohAiADQRBqIQMgBEEEayIEDQALCw==";
const WASM_PAGE = 65_536; // bytes of memory at a time

/**
 * A memory with room for so many numbers, and as many again as the widest side of a product has.
 * @param {number} size
 * @param {number} widest numbers of the largest matrix that stands right in a product
 * @param {KernelName} [wanted] plain JavaScript comes in place of WebAssembly where the browser refuses that
 * @returns {TrainingKernel}
 */
export function trainingKernel(size, widest, wanted = "wasm") {
    const simd = wanted === "wasm" ? inSimd(size, widest) : null;
    return simd ?? (wanted === "wide" ? inScript(new Float64Array(size), wanted) : inScript(new Float32Array(size), "plain"));
}

/** @param {number} size @param {number} widest @returns {TrainingKernel | null} null where the browser refuses */
function inSimd(size, widest) {
    /** @type {Record<string, (...given: number[]) => any>} */
    let run;
    /** @type {WebAssembly.Memory} */
    let memory;
    try {
        memory = new WebAssembly.Memory({ initial: Math.ceil((4 * (size + widest)) / WASM_PAGE) });
        const code = Uint8Array.from(atob(BYTES), (letter) => letter.charCodeAt(0));
        run = /** @type {any} */ (new WebAssembly.Instance(new WebAssembly.Module(code), { training: { memory } }).exports);
    } catch {
        return null; // no WebAssembly, no SIMD, or a policy that forbids it
    }
    const panels = 4 * size;
    return {
        numbers: new Float32Array(memory.buffer),
        name: "wasm",
        product: (y, x, w, rows, columns, inner, yRow, adds = false) => {
            (w.isTurned ? run.pack_turned : run.pack)(panels, 4 * w.at, inner, columns, 4 * w.row);
            const [row, step] = x.isTurned ? [4, 4 * x.row] : [4 * x.row, 4];
            run.product(4 * y, 4 * x.at, panels, rows, columns, inner, row, step, 4 * yRow, Number(adds));
        },
        add: (y, x, n) => run.add(4 * y, 4 * x, n),
        addRow: (y, x, rows, n) => run.add_row(4 * y, 4 * x, rows, n),
        addRows: (y, x, rows, n) => run.add_rows(4 * y, 4 * x, rows, n),
        gelu: (y, x, n) => run.gelu(4 * y, 4 * x, n),
        geluBack: (d, x, n) => run.gelu_back(4 * d, 4 * x, n),
        softmax: (x, rows, n, scale, told) => run.softmax(4 * x, rows, n, scale, 4 * told),
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
        product: (y, x, w, rows, columns, inner, yRow, adds = false) => {
            const [xRow, xStep] = x.isTurned ? [1, x.row] : [x.row, 1];
            const [wRow, wStep] = w.isTurned ? [1, w.row] : [w.row, 1];
            for (let r = 0; r < rows; r++) {
                for (let c = 0; c < columns; c++) {
                    let sum = 0;
                    for (let k = 0; k < inner; k++) sum += a[x.at + r * xRow + k * xStep] * a[w.at + k * wRow + c * wStep];
                    a[y + r * yRow + c] = sum + (adds ? a[y + r * yRow + c] : 0);
                }
            }
        },
        add,
        addRow: (y, x, rows, n) => {
            for (let r = 0; r < rows; r++) add(y + r * n, x, n);
        },
        addRows: (y, x, rows, n) => {
            for (let r = 0; r < rows; r++) add(y, x + r * n, n);
        },
        gelu: (y, x, n) => {
            for (let i = 0; i < n; i++) a[y + i] = a[x + i] * gate(a[x + i]);
        },
        geluBack: (d, x, n) => {
            for (let i = 0; i < n; i++) {
                const [u, s] = [a[x + i], gate(a[x + i])];
                a[d + i] *= s + u * s * (1 - s) * GATE * (1 + 3 * CUBE * u * u);
            }
        },
        softmax: (x, rows, n, scale, told) => {
            for (let r = 0; r < rows; r++, x += n) {
                let [most, sum] = [-Infinity, 0];
                for (let i = x; i < x + n; i++) most = Math.max(most, scale * a[i]);
                for (let i = x; i < x + n; i++) sum += a[i] = Math.exp(scale * a[i] - most);
                for (let i = x; i < x + n; i++) a[i] /= sum;
                [a[told + 2 * r], a[told + 2 * r + 1]] = [most, sum];
            }
        },
        softmaxBack: (d, p, rows, n, scale) => {
            for (let r = 0; r < rows; r++, d += n, p += n) {
                let sum = 0;
                for (let i = 0; i < n; i++) sum += a[d + i] * a[p + i];
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
