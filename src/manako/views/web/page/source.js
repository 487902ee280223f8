/**
 * What texts are written by: the engine in the page, or the server that sent it. `Writer` knows no more of them.
 *
 * Special here: types alone. A source writes one text at a time, tells of every step while it is made, and gives the
 * whole as the file of a trace.
 */

/** @import {Branch} from "../trace/tree.js" */
/** @import {StageName} from "../trace/sampling.js" */

/**
 * What is known of a model, ready or not.
 * @typedef {object} KnownModel
 * @property {boolean} ready
 * @property {number} [share] of it that is there already, 0 to 1, where that is known
 * @property {string} ref
 * @property {string[]} captures what it can record of its inside
 * @property {string} weights_sha256
 * @property {string} tokenizer_sha256
 * @property {Record<string, any>} [config] of one that runs in the page; a server compares it itself
 * @property {Source | null} source what runs it; null while it loads
 * @property {string} [reads] of one beside others: which prompts it is for, as a pattern
 */
/**
 * What is to be written.
 * @typedef {object} WriteRequest
 * @property {string} id that no branch has yet, for a source that gives none itself
 * @property {string} prompt a new text, or what is put in behind the one that it goes on from
 * @property {Record<string, any>} settings sampling, max_new_tokens, capture, and seed where it is not the text's own
 * @property {{branch: Branch, keep: number, token?: number} | null} after behind how many steps of a branch it goes
 *     on, and the token that is put there
 */
/** @typedef {{id: number, bytes: Uint8Array, p: number, pModel: number, rank: number, cutBy: StageName | null}} ToldToken */
/**
 * A step that has just been made.
 * @typedef {object} ToldStep
 * @property {number} index of the step in what is being written, from 0
 * @property {ToldToken} taken
 * @property {string} text of the token
 * @property {ToldToken[]} listed the first candidates, best first
 * @property {{count: number, p: number, pModel: number}} other all tokens but these, together
 */
/**
 * @typedef {object} Listener
 * @property {(id: string, firstStep: number) => void} start once, with the branch's name and the steps in front of it
 * @property {(told: ToldStep) => void} step
 * @property {(message: string) => void} fault what ended it, in the reader's language
 */
/**
 * @typedef {object} Source
 * @property {boolean} ablates whether it can go on from a text for which parts of the model were switched off
 * @property {(request: WriteRequest, listener: Listener, signal: AbortSignal) => Promise<void>} write ends with the
 *     text, soon after it is aborted; throws SourceError
 * @property {(id: string) => Promise<ArrayBuffer>} trace what was written, as a file
 * @property {(id: string) => Promise<void>} stop after the step in hand
 */

/** Why nothing, or no more, came of it, for the reader; no message where the source did not answer at all. */
export class SourceError extends Error {}
