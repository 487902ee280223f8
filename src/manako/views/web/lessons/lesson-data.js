/** The lessons as data: what each step lights up, shows and asks. Their sentences lie in the catalogs under the same names. */

import lessonTable from "./lessons.json" with { type: "json" };

/**
 * One step of a lesson.
 * @typedef {object} LessonStep
 * @property {string} part of the page that it speaks of
 * @property {string} [text] that is shown; without one, whatever the reader has before him
 * @property {boolean} [guess] whether the first token is to be guessed
 * @property {number} [temperature] to try
 * @property {string} [head] "best": the one that looks most at the watched token
 * @property {string} [task] what the reader does, a name in `TASKS`
 * @property {string} [picture] a name in `PICTURES`
 */
/** @typedef {{id: string, by_language?: boolean, steps: LessonStep[]}} Lesson `by_language`: its sentences are about the language of its texts */
/** @typedef {{lesson: Lesson, step: LessonStep, number: number}} LessonPlace `number` from 1 */

/** @type {Lesson[]} */
export const LESSONS = lessonTable.lessons;
/**
 * What the lessons show of one model: scripts/lesson_texts.py finds it.
 * @typedef {object} LessonModel
 * @property {string} language that it reads
 * @property {Record<string, {prompt: string, seed: number, count: number}>} texts
 * @property {string} name made up for the story
 * @property {string} watched the token that lessons look for in it
 * @property {{vocabulary: number, tokens: string[], word: string}} cuts how another tokenizer cuts a sentence, and a
 *     word in it: no model of that kind is in the page, so they are kept here
 */
/** @type {Record<string, LessonModel>} by the model's name */
export const LESSON_MODELS = lessonTable.models;
/** @type {Record<string, [selector: string, tab: string | null]>} */
export const LESSON_PARTS = /** @type {any} */ (lessonTable.parts);
export const LESSON_TEMPERATURE = lessonTable.temperature;
/**
 * What a name such as "number.2" means; null where there is no such step.
 * @param {string | null} name
 * @returns {LessonPlace | null}
 */
export function lessonPlace(name) {
    const [id, number = "1"] = (name ?? "").split(".");
    const lesson = LESSONS.find((each) => each.id === id);
    const step = /^\d{1,3}$/.test(number) ? lesson?.steps[Number(number) - 1] : undefined;
    return lesson && step ? { lesson, step, number: Number(number) } : null;
}
