/**
 * Random numbers of a training: whole ones as NumPy's `Generator(Philox(key=[seed, stream]))` draws them, so that Python
 * goes through a text in the same order; normal ones for the first weights, which no other program has to make again.
 *
 * Special here: both are the same bits everywhere. A logarithm or a cosine would be the browser's own, so a normal
 * number is the sum of twelve uniform ones, less six.
 */

const WORD = (1n << 64n) - 1n;

/** The stream of one key. Source: Salmon et al. 2011; numpy/random/src/distributions/distributions.c. */
export class Philox {
    /** @param {bigint} seed @param {bigint} stream */
    constructor(seed, stream) {
        this.#key = [seed, stream];
    }

    #key;
    #counter = 0n;
    /** @type {number[]} words of 32 bits that were made and not drawn, the next one last */
    #words = [];

    /** 32 random bits. */
    next() {
        if (this.#words.length === 0) this.#fill();
        return /** @type {number} */ (this.#words.pop());
    }

    /** A whole number below `size`, at most 2^32: `integers(size)`. Source: Lemire 2019, arXiv:1805.10941. @param {number} size */
    below(size) {
        if (size === 1) return 0;
        const [wide, threshold] = [BigInt(size), (2 ** 32 - size) % size];
        for (;;) {
            const product = BigInt(this.next()) * wide;
            if (Number(product & 0xffffffffn) >= threshold) return Number(product >> 32n);
        }
    }

    /** 0 to size - 1 in a random order: `permutation(size)`. @param {number} size */
    permutation(size) {
        const order = Uint32Array.from({ length: size }, (_, i) => i);
        for (let i = size - 1; i > 0; i--) {
            const mask = 2 ** (32 - Math.clz32(i)) - 1;
            let other = (this.next() & mask) >>> 0;
            while (other > i) other = (this.next() & mask) >>> 0;
            [order[i], order[other]] = [order[other], order[i]];
        }
        return order;
    }

    #fill() {
        let [key0, key1] = this.#key;
        let [c0, c1, c2, c3] = [++this.#counter, 0n, 0n, 0n];
        for (let round = 0; round < 10; round++) {
            const [left, right] = [c0 * 0xd2e7470ee14c6c93n, c2 * 0xca5a826395121157n]; // 128 bits each
            [c0, c1, c2, c3] = [((right >> 64n) ^ c1 ^ key0) & WORD, right & WORD, ((left >> 64n) ^ c3 ^ key1) & WORD, left & WORD];
            [key0, key1] = [(key0 + 0x9e3779b97f4a7c15n) & WORD, (key1 + 0xbb67ae8584caa73bn) & WORD];
        }
        this.#words = [c3, c2, c1, c0].flatMap((word) => [Number(word >> 32n), Number(word & 0xffffffffn)]);
    }
}

/**
 * A source of normal numbers. Source of the bits: Steele et al. 2014, "Fast splittable pseudorandom number generators",
 * with the constants of its 32-bit form.
 * @param {number} seed
 * @returns {() => number}
 */
export function normals(seed) {
    let state = seed | 0;
    const uniform = () => {
        state = (state + 0x9e3779b9) | 0;
        let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
        mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
        return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
    };
    return () => {
        let sum = -6;
        for (let i = 0; i < 12; i++) sum += uniform();
        return sum;
    };
}
