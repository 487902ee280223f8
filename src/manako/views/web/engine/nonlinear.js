/** The activation functions of an MLP, as `manako.families.nonlinear` has them, one number at a time in float64. */

const ERF_ABOVE = [ // coefficients from the highest power down
    -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5, -7.34990630326855e-4,
    -2.95459980854025e-3, -1.60960333262415e-2,
];
const ERF_BELOW = [-1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3, -1.42647390514189e-2];
const ROOT = Math.sqrt(2 / Math.PI);

/** @satisfies {Record<string, (x: number) => number>} by the name that config.json has for them */
export const ACTIVATION = {
    /** GPT-2's tanh form of GELU, by 1 + tanh(z) = 2 / (1 + exp(-2z)). Source: Hendrycks and Gimpel 2016, arXiv:1606.08415. */
    gelu_new: (x) => x / (1 + Math.exp(-2 * ROOT * x * (1 + 0.044715 * x * x))),
    gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
    relu: (x) => Math.max(0, x),
};

/** The rational approximation of Eigen and XLA, within 5e-7. @param {number} x */
function erf(x) {
    const y = Math.min(4, Math.max(-4, x));
    const along = (/** @type {number[]} */ numbers) => numbers.reduce((total, each) => total * y * y + each);
    return (y * along(ERF_ABOVE)) / along(ERF_BELOW);
}
