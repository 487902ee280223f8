/**
 * Muon, which moves the matrices inside the blocks: momentum, orthogonalised, so that every direction of a matrix moves
 * equally fast. What `manako.training.optim` does; tests/views/web/test_training.py compares whole runs.
 *
 * Special here: `c_attn` holds three matrices side by side, which are orthogonalised one by one. Source: Jordan et al. 2024,
 * "Muon: An optimizer for hidden layers in neural networks" (quintic Newton-Schulz).
 */

/** @import {ProductHow, TrainingKernel} from "./kernel.js" */

const MOMENTUM = 0.95;
const NEWTON_SCHULZ = [3.4445, -4.775, 2.0315];
const TIMES = 5;
/** @type {ProductHow} */
const HALF = { triangle: "y" };

/** Whether Muon moves a weight, where it is asked for. @param {string} name @param {readonly number[]} shape */
export function isHidden(name, shape) {
    return name.startsWith("h.") && shape.length > 1;
}

/** How many numbers of memory `moveOrthogonally` needs beside the weights. @param {number} width of the model */
export function roomFor(width) {
    return 2 * width * 4 * width + 2 * width ** 2;
}

/**
 * Move a matrix [inner, outer] against its gradient.
 * @param {TrainingKernel} kernel
 * @param {{at: number, gradient: number, momentum: number, room: number}} places
 * @param {readonly number[]} shape
 * @param {number} clip what gradients are multiplied by
 * @param {number} rate the size of the update in units of an orthogonal matrix, times sqrt(max(1, outer / inner))
 */
export function moveOrthogonally(kernel, { at, gradient, momentum, room }, [inner, outer], clip, rate) {
    const a = kernel.numbers;
    const count = outer === 3 * inner ? 3 : 1; // c_attn: q, k, v
    const columns = outer / count;
    const isTall = inner > columns; // then turned: the smaller side first
    const [n, m] = isTall ? [columns, inner] : [inner, columns];
    const [toRow, toColumn] = isTall ? [1, m] : [m, 1]; // of the matrix in what is orthogonalised
    const by = rate * Math.sqrt(Math.max(1, columns / inner));
    for (let part = 0; part < count; part++) {
        let square = 0;
        for (let r = 0; r < inner; r++) {
            const first = r * outer + part * columns;
            for (let c = 0; c < columns; c++) {
                const slope = clip * a[gradient + first + c];
                const kept = (a[momentum + first + c] += (1 - MOMENTUM) * (slope - a[momentum + first + c]));
                const along = slope + MOMENTUM * (kept - slope);
                a[room + r * toRow + c * toColumn] = along;
                square += along * along;
            }
        }
        kernel.scale(room, n * m, 1 / (Math.sqrt(square) + 1e-7));
        const found = orthogonal(kernel, room, n, m);
        for (let r = 0; r < inner; r++) {
            const first = at + r * outer + part * columns;
            for (let c = 0; c < columns; c++) a[first + c] -= by * a[found + r * toRow + c * toColumn];
        }
    }
}

/**
 * The nearest orthogonal matrix to one [n, m] of norm 1, roughly: singular values near 1. Returns where it is.
 * @param {TrainingKernel} kernel
 * @param {number} room where the matrix is, with free room behind it
 * @param {number} n
 * @param {number} m
 */
function orthogonal(kernel, room, n, m) {
    const a = kernel.numbers;
    const [p, q, r] = NEWTON_SCHULZ;
    let [x, y] = [room, room + n * m];
    const [gram, square] = [room + 2 * n * m, room + 2 * n * m + n * n];
    for (let time = 0; time < TIMES; time++) {
        kernel.product(gram, { at: x, row: m }, { at: x, row: m, isTurned: true }, n, n, m, n, HALF);
        for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) a[gram + j * n + i] = a[gram + i * n + j];
        kernel.product(square, { at: gram, row: n }, { at: gram, row: n }, n, n, n, n);
        for (let i = 0; i < n * n; i++) a[gram + i] = q * a[gram + i] + r * a[square + i];
        for (let i = 0; i < n; i++) a[gram + i * n + i] += p;
        kernel.product(y, { at: gram, row: n }, { at: x, row: m }, n, m, n, m);
        [x, y] = [y, x];
    }
    return x;
}
