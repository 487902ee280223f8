/**
 * SHA-256 without the browser's own, which a page has not that came over plain HTTP from another machine.
 * Source: FIPS 180-4.
 */

const PRIMES = Array.from({ length: 312 }, (_, n) => n).filter((n) => n > 1 && !Array.from({ length: n }, (_, d) => d).some((d) => d > 1 && n % d === 0));
const START = PRIMES.slice(0, 8).map((prime) => frac(Math.sqrt(prime)));
const ROUND = PRIMES.map((prime) => frac(Math.cbrt(prime))); // of the first 64

/** @param {Uint8Array} bytes @returns {Uint8Array} 32 of them */
export function sha256Plain(bytes) {
    const padded = new DataView(new ArrayBuffer(Math.ceil((bytes.length + 9) / 64) * 64));
    new Uint8Array(padded.buffer).set(bytes);
    padded.setUint8(bytes.length, 0x80);
    padded.setBigUint64(padded.byteLength - 8, 8n * BigInt(bytes.length));
    const state = Int32Array.from(START);
    const w = new Int32Array(64);
    for (let at = 0; at < padded.byteLength; at += 64) {
        for (let i = 0; i < 16; i++) w[i] = padded.getInt32(at + 4 * i);
        for (let i = 16; i < 64; i++) {
            const [a, b] = [w[i - 15], w[i - 2]];
            const low = rotated(a, 7) ^ rotated(a, 18) ^ (a >>> 3);
            const high = rotated(b, 17) ^ rotated(b, 19) ^ (b >>> 10);
            w[i] = w[i - 16] + low + w[i - 7] + high;
        }
        let [a, b, c, d, e, f, g, h] = state;
        for (let i = 0; i < 64; i++) {
            const chosen = (e & f) ^ (~e & g);
            const first = (h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + chosen + ROUND[i] + w[i]) | 0;
            const majority = (a & b) ^ (a & c) ^ (b & c);
            const second = ((rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + majority) | 0;
            h = g;
            g = f;
            f = e;
            e = (d + first) | 0;
            d = c;
            c = b;
            b = a;
            a = (first + second) | 0;
        }
        [a, b, c, d, e, f, g, h].forEach((each, i) => (state[i] += each));
    }
    const found = new DataView(new ArrayBuffer(32));
    state.forEach((each, i) => found.setInt32(4 * i, each));
    return new Uint8Array(found.buffer);
}

/** The first 32 bits behind the point. @param {number} number */
function frac(number) {
    return Math.floor((number - Math.floor(number)) * 2 ** 32) | 0;
}

/** @param {number} word @param {number} by bits to the right */
function rotated(word, by) {
    return (word >>> by) | (word << (32 - by));
}
