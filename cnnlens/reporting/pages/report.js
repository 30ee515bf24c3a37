// Draws the report: each part by its own module.

import { drawAbout } from "./about.js";
import { drawCheck } from "./check.js";
import { drawDiff } from "./diff.js";
import { drawInputs } from "./inputs.js";
import { drawLayers } from "./layers.js";
import { startLinks } from "./links.js";
import { drawNetwork } from "./network.js";
import { startPrint } from "./print.js";
import { startTheme } from "./theme.js";

startTheme();
startPrint();
drawNetwork();
drawInputs();
drawCheck();
drawDiff();
drawLayers();
drawAbout();
startLinks();
