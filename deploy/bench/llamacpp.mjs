// Prefill and decode speed of llama.cpp on a GGUF file, through node-llama-cpp's prebuilt binaries (it picks those for this CPU).
// usage: node llamacpp.mjs MODEL THREADS PROMPT_TOKENS ANSWER_TOKENS      prints {"prefill": tokens/s, "decode": tokens/s}
import {getLlama} from "node-llama-cpp";

const [file, threads, prompt, answer] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, maxThreads: threads, logLevel: "error"});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({contextSize: prompt + answer + 64, batchSize: 512, threads, flashAttention: true});
const sequence = context.getSequence();
const tokens = Array.from({length: prompt}, (_, i) => 100 + (i * 37) % 4000);

async function once() {
    await sequence.clearHistory();
    let begun = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens);
    const prefill = prompt / (performance.now() - begun) * 1000;
    await sequence.clearHistory();
    let n = 0;
    begun = 0;
    // The first token comes with the evaluation of its prompt: the clock starts after it.
    for await (const _ of sequence.evaluate(tokens.slice(0, 8), {temperature: 0, yieldEogToken: true})) {
        if (n++ === 0) begun = performance.now();
        if (n > answer) break;
    }
    return {prefill, decode: (n - 1) / (performance.now() - begun) * 1000};
}

await once(); // warm
console.log(JSON.stringify(await once()));
process.exit(0);
