/** The start of the page that trains: its words, its thread and the page that a trained model goes into are in the file. */

import { TrainingElement } from "./view.js";
import { restoreLanguage } from "../elements/language.js";
import { setCatalogs } from "../text/messages.js";

/** What a block of the file holds. @param {string} id */
function block(id) {
    return document.getElementById(id)?.textContent ?? "";
}

const element = document.querySelector("manako-training");
if (element instanceof TrainingElement) {
    setCatalogs(JSON.parse(block("manako-words")));
    restoreLanguage();
    element.start(block("manako-trainer"), block("manako-page"), { manako: document.getElementById("manako-page")?.dataset.version ?? "" });
}
