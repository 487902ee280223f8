/** How a thread that computes listens: what has come in waits until it is asked for. */

/** Let what has come in be heard; a timer would wait 4 ms. */
export function breath() {
    const { port1, port2 } = new MessageChannel();
    return new Promise((resolve) => {
        port1.onmessage = () => {
            port1.close();
            resolve(undefined);
        };
        port2.postMessage(0);
    });
}
