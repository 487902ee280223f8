/**
 * The one product that the engine spends its time in, in WebAssembly SIMD; the same in plain JavaScript where WebAssembly
 * is refused.
 *
 * Special here: the bytes are kernel.wat, put in by scripts/assemble_kernel.py; a test compares the two. The plain product adds up
 * in float64, so it is also the exact one that the other is held to.
 */

/**
 * y[t][r] = sum over i of w[r][i] * x[t][i]: all places and strides count numbers, not bytes. width is a multiple of 16.
 * @typedef {(y: number, w: number, x: number, rows: number, width: number, wStride: number, count?: number, xStride?: number,
 *     yStride?: number) => void} Product
 */
/** @typedef {{numbers: Float32Array, product: Product, name: "wasm" | "plain"}} Kernel a memory and what multiplies in it */

export const LANES = 16; // numbers that the product takes at a time
const BYTES = "AGFzbQEAAAABDQFgCX9/f39/f39/fwACEgEGZW5naW5lBm1lbW9yeQIAAQMCAQAHCwEHcHJvZHVjdAAACtgCAdUCCAF/AX8BfwF/AXsBewF7AXsDQCACIQkgACEKIAYhCwNA/QwAAAAAAAAAAAAAAAAAAAAAIQ39DAAAAAAAAAAAAAAAAAAAAAAhDv0MAAAAAAAAAAAAAAAAAAAAACEP/QwAAAAAAAAAAAAAAAAAAAAAIRBBACEMA0AgASAMav0AAgAgCSAMav0AAgD95gEgDf3kASENIAEgDGr9AAIQIAkgDGr9AAIQ/eYBIA795AEhDiABIAxq/QACICAJIAxq/QACIP3mASAP/eQBIQ8gASAMav0AAjAgCSAMav0AAjD95gEgEP3kASEQIAxBwABqIgwgBEkNAAsgDSAO/eQBIA8gEP3kAf3kASENIAogDf0fACAN/R8BkiAN/R8CIA39HwOSkjgCACAJIAdqIQkgCiAIaiEKIAtBAWsiCw0ACyABIAVqIQEgAEEEaiEAIANBAWsiAw0ACws=";
const PAGE = 65_536; // bytes of memory at a time

/**
 * A memory with room for so many numbers.
 * @param {number} size
 * @param {boolean} [exact] the plain product, whatever the browser can
 * @returns {Kernel}
 */
export function kernel(size, exact = false) {
    return (exact ? null : inWasm(size)) ?? inPlain(size);
}

/** @param {number} size @returns {Kernel | null} null where the browser refuses */
function inWasm(size) {
    try {
        const memory = new WebAssembly.Memory({ initial: Math.ceil((4 * size) / PAGE) });
        const code = Uint8Array.from(atob(BYTES), (letter) => letter.charCodeAt(0));
        const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code), { engine: { memory } });
        const run = /** @type {(...given: number[]) => void} */ (exports.product);
        /** @type {Product} */
        const product = (y, w, x, rows, width, wStride, count = 1, xStride = 0, yStride = 0) =>
            run(4 * y, 4 * w, 4 * x, rows, 4 * width, 4 * wStride, count, 4 * xStride, 4 * yStride);
        return { numbers: new Float32Array(memory.buffer), product, name: "wasm" };
    } catch {
        return null; // no WebAssembly, no SIMD, or a policy that forbids it
    }
}

/** @param {number} size @returns {Kernel} */
function inPlain(size) {
    const numbers = new Float32Array(size);
    /** @type {Product} */
    const product = (y, w, x, rows, width, wStride, count = 1, xStride = 0, yStride = 0) => {
        for (let r = 0; r < rows; r++, w += wStride) {
            for (let t = 0; t < count; t++) {
                let [a, b, c, d] = [0, 0, 0, 0];
                for (let i = w, j = x + t * xStride; i < w + width; i += 4, j += 4) {
                    a += numbers[i] * numbers[j];
                    b += numbers[i + 1] * numbers[j + 1];
                    c += numbers[i + 2] * numbers[j + 2];
                    d += numbers[i + 3] * numbers[j + 3];
                }
                numbers[y + t * yStride + r] = a + b + (c + d);
            }
        }
    };
    return { numbers, product, name: "plain" };
}
