/** When something is done: behind the frame that shows what stands there, or a few milliseconds at a time. */

const SLICE = 6; // ms of work between two looks at what else there is to do

/** Wait until what stands there now is on the screen. */
export function painted() {
    return new Promise((shown) => {
        requestAnimationFrame(() => requestAnimationFrame(shown));
        setTimeout(shown, 200); // a page that nobody sees has no frames
    });
}

/**
 * Work that leaves room for all else.
 * @template T
 * @param {Iterator<void, T>} work
 * @param {(found: T) => void} [done]
 * @returns {() => void} what ends it before its time
 */
export function sliced(work, done = () => {}) {
    const slice = () => {
        for (const end = performance.now() + SLICE; performance.now() < end; ) {
            const step = work.next();
            if (step.done) return done(step.value);
        }
        timer = setTimeout(slice);
    };
    let timer = setTimeout(slice);
    return () => clearTimeout(timer);
}
