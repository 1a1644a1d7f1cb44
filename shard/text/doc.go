// Package text turns text into the tokens of a language model and back, and a chat into the prompt that
// the model was trained on.
//
// A Tokenizer is read from the metadata of a GGUF file: byte-level BPE ("gpt2") with the pre-tokenizers
// of GPT-2, SmolLM, Llama 3, Qwen2 and their kin, or SentencePiece BPE ("llama"). It agrees token by
// token with Hugging Face's tokenizers and with llama.cpp (testdata holds the comparison). A Template is
// the chat template of a model, rendered by package jinja.
//
// Both come out of a file by a stranger: sizes are bounded before anything is allocated for them, and no
// vocabulary, template or text makes this package panic. Tokenizers and templates are immutable and may
// be used by several goroutines at once; a Stream belongs to one.
package text
