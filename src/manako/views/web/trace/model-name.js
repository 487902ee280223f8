/**
 * What a model is called where people see it: its reference without the folders on the way to it.
 *
 * As `manako.trace.model_name` has it; Python's answers: tests/vectors/model-names.json.
 */

/** @param {string} ref a reference as `manako -m` takes it */
export function modelName(ref) {
    if (/^hf:[A-Za-z0-9][A-Za-z0-9_-]*\/[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(ref)) return ref;
    const prefix = /^[a-z][a-z-]+:/.exec(ref)?.[0] ?? "";
    const rest = ref.slice(prefix.length);
    const parts = rest.split(/[/\\]/).filter((part) => !["", ".", ".."].includes(part));
    return prefix + (parts.at(-1) ?? rest.replace(/^[/\\]+|[/\\]+$/g, ""));
}
