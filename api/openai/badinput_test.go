package openai_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"eckart/api/openai"
	"eckart/runtime"
)

const (
	chatPath       = "/v1/chat/completions"
	completionPath = "/v1/completions"
)

// chatWith is a chat's body with further fields; completionWith a completion's.
func chatWith(fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return `{"model":"m","messages":[{"role":"user","content":"hi"}]` + fields + `}`
}

func completionWith(fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return `{"model":"m","prompt":"hi"` + fields + `}`
}

func messages(list string) string { return `{"model":"m","messages":` + list + `}` }
func prompt(p string) string      { return `{"model":"m","prompt":` + p + `}` }

// TestBadInput is the table of bad requests. A row stands for one input; its name is the row of the list of bad inputs
// that the project keeps to, J1 to J20, T6 and T7. A status of 200 is an input that looks bad and is defined.
func TestBadInput(t *testing.T) {
	chats, completions := chatPath, completionPath
	huge := func(n int) string { return strings.Repeat("x", n) }
	list := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	for _, row := range []struct {
		name, path, body string
		status           int
		code, message    string
	}{
		{"J1", chats, ``, 400, "invalid_json", "empty"},
		{"J1", chats, `[]`, 400, "invalid_json", "must be a JSON object, got []"},
		{"J1", chats, `null`, 400, "invalid_json", "must be a JSON object, got null"},
		{"J1", chats, `"x"`, 400, "invalid_json", `must be a JSON object, got "x"`},
		{"J1", chats, `{`, 400, "invalid_json", "ends at byte 1"},
		{"J1", chats, huge(1), 400, "invalid_json", "unexpected 'x' at byte 0"},
		{"J1", chats, strings.Repeat("[", 64<<10), 400, "invalid_json", "deeper than 64"},
		{"J1", chats, chatWith("") + " }", 400, "invalid_json", "goes on"},
		{"J1", chats, chatWith("") + chatWith(""), 400, "invalid_json", "goes on"},
		{"J1", chats, "\xff\xfe{\x00}\x00", 400, "invalid_json", "UTF-16"},
		{"J1", chats, "{\x00}\x00", 400, "invalid_json", "UTF-16"},
		{"J1", chats, "\x00{\x00}", 400, "invalid_json", "UTF-16"},
		{"J1", chats, "\xef\xbb\xbf{}", 400, "invalid_json", "byte order mark"},
		{"J1", chats, chatWith(`"model":"m"`), 400, "invalid_json", `the key "model" twice`},
		{"J1", chats, chatWith("\"user\":\"\xff\""), 400, "invalid_json", "not UTF-8"},
		{"J1", "/tokenize", `[]`, 400, "invalid_json", "must be a JSON object"},

		{"J6", chats, `{"messages":[{"role":"user","content":"hi"}]}`, 400, "missing_required_parameter", `model is missing: this server serves "m"`},
		{"J6", chats, `{"model":"n","messages":[{"role":"user","content":"hi"}]}`, 404, "model_not_found", `there is no model "n"`},
		{"J6", chats, `{"model":"","messages":[]}`, 400, "invalid_value", `model must be the name of a model, got ""`},
		{"J6", chats, `{"model":7,"messages":[]}`, 400, "invalid_value", "model must be a string, got 7"},
		{"J6", chats, `{"model":"` + huge(1<<20) + `","messages":[]}`, 400, "invalid_value", "xxx..."},
		{"J6", chats, `{"model":"../../x","messages":[{"role":"user","content":"hi"}]}`, 404, "model_not_found", "../../x"},
		{"J6", completions, `{"model":"m:adapter","prompt":"hi"}`, 404, "model_not_found", "m:adapter"},

		{"J7", chats, chatWith(`"temperature":"1"`), 400, "invalid_value", `temperature must be a number between 0 and 2, got "1"`},
		{"J7", chats, chatWith(`"temperature":1e400`), 400, "invalid_value", "got 1e400"},
		{"J7", chats, chatWith(`"temperature":NaN`), 400, "invalid_json", "unexpected 'N'"},
		{"J7", chats, chatWith(`"temperature":-0`), 200, "", ""},
		{"J7", chats, chatWith(`"max_tokens":1.5`), 400, "invalid_value", "max_tokens must be a whole number"},
		{"J7", chats, chatWith(`"max_tokens":true`), 400, "invalid_value", "got true"},
		{"J7", chats, chatWith(`"max_tokens":"5"`), 400, "invalid_value", `got "5"`},
		{"J7", chats, chatWith(`"seed":9007199254740993`), 200, "", ""},
		{"J7", chats, chatWith(`"seed":9223372036854775808`), 400, "invalid_value", "64 bits"},
		{"J7", chats, chatWith(`"seed":-1`), 200, "", ""},
		{"J7", chats, chatWith(`"stream":1`), 400, "invalid_value", "stream must be true or false, got 1"},

		{"J8", chats, chatWith(`"temperature":-1`), 400, "invalid_value", "between 0 and 2, got -1"},
		{"J8", chats, chatWith(`"temperature":2.0001`), 400, "invalid_value", "temperature"},
		{"J8", chats, chatWith(`"temperature":1e9`), 400, "invalid_value", "temperature"},
		{"J8", chats, chatWith(`"temperature":1e-30`), 200, "", ""},
		{"J8", chats, chatWith(`"top_p":-0.1`), 400, "invalid_value", "top_p"},
		{"J8", chats, chatWith(`"top_p":0`), 400, "invalid_value", "top_p must be a number above 0"},
		{"J8", chats, chatWith(`"top_p":1.0001`), 400, "invalid_value", "top_p"},
		{"J8", chats, chatWith(`"top_k":-2`), 400, "invalid_value", "top_k"},
		{"J8", chats, chatWith(`"top_k":0`), 200, "", ""},
		{"J8", chats, chatWith(`"top_k":2147483648`), 400, "invalid_value", "top_k"},
		{"J8", chats, chatWith(`"min_p":-1`), 400, "invalid_value", "min_p"},
		{"J8", chats, chatWith(`"min_p":2`), 400, "invalid_value", "min_p"},
		{"J8", chats, chatWith(`"presence_penalty":3`), 400, "invalid_value", "presence_penalty"},
		{"J8", chats, chatWith(`"frequency_penalty":-3`), 400, "invalid_value", "frequency_penalty"},
		{"J8", chats, chatWith(`"repetition_penalty":1e30`), 400, "invalid_value", "repetition_penalty"},
		{"J8", chats, chatWith(`"repetition_penalty":0`), 400, "invalid_value", "repetition_penalty"},

		{"J9", chats, chatWith(`"max_tokens":0`), 400, "invalid_value", "max_tokens"},
		{"J9", chats, chatWith(`"max_tokens":-1`), 400, "invalid_value", "max_tokens"},
		{"J9", chats, chatWith(`"max_tokens":1`), 200, "", ""},
		{"J9", chats, chatWith(`"max_tokens":2147483648`), 400, "invalid_value", "max_tokens"},
		{"J9", chats, chatWith(`"max_tokens":9223372036854775808`), 400, "invalid_value", "max_tokens"},
		{"J9", chats, chatWith(`"max_tokens":2147483647`), 400, "context_length_exceeded", "holds 2048 tokens"},
		{"J9", chats, chatWith(`"max_completion_tokens":5,"max_tokens":6`), 400, "invalid_value", "send one"},
		{"J9", chats, chatWith(`"max_tokens":2,"min_tokens":3`), 400, "invalid_value", "min_tokens is 3, more than max_tokens, which is 2"},
		{"J9", completions, `{"model":"m","prompt":"` + huge(testContext-2) + `","max_tokens":1}`, 200, "", ""}, // with its first token
		{
			"J9", completions, `{"model":"m","prompt":"` + huge(testContext-2) + `","max_tokens":2}`, 400, "context_length_exceeded",
			"the prompt has 2047 and max_tokens asks for 2 more; shorten the prompt, lower max_tokens to 1, or start the server with a larger --context",
		},
		{"J9", completions, `{"model":"m","prompt":"` + huge(testContext-1) + `"}`, 400, "context_length_exceeded", "the prompt has 2048, which leaves no room"},
		{"J9", completions, `{"model":"m","prompt":"` + huge(testContext) + `"}`, 400, "context_length_exceeded", "the prompt has 2049"},
		{"J9", completions, `{"model":"m","prompt":"` + huge(testContext-2) + `"}`, 200, "", ""},
		{"J9", completions, `{"model":"m","prompt":"` + huge(testContext-2) + `","min_tokens":2}`, 400, "context_length_exceeded", "2047"},
		{"J9", completions, `{"model":"m","prompt":"` + huge(1<<20) + `"}`, 400, "context_length_exceeded", "1048576 bytes"},

		{"J10", chats, chatWith(`"n":0`), 400, "invalid_value", "n must be a whole number between 1 and 128, got 0"},
		{"J10", chats, chatWith(`"n":-1`), 400, "invalid_value", "n must be"},
		{"J10", chats, chatWith(`"n":129`), 400, "invalid_value", "n must be"},
		{"J10", chats, chatWith(`"n":1000000`), 400, "invalid_value", "n must be"},
		{"J10", completions, completionWith(`"n":2,"best_of":1`), 400, "invalid_value", "best_of is 1, less than n"},
		{"J10", completions, completionWith(`"best_of":3`), 400, "unsupported_parameter", "best_of above n is not supported"},
		{"J10", completions, completionWith(`"n":2,"best_of":2`), 200, "", ""},
		{"J10", completions, completionWith(`"logprobs":21`), 400, "invalid_value", "logprobs must be a whole number between 0 and 5"},
		{"J10", completions, completionWith(`"logprobs":-1`), 400, "invalid_value", "logprobs"},
		{"J10", completions, completionWith(`"logprobs":"5"`), 400, "invalid_value", `got "5"`},
		{"J10", chats, chatWith(`"logprobs":5`), 400, "invalid_value", "logprobs must be true or false, got 5"},
		{"J10", chats, chatWith(`"logprobs":true,"top_logprobs":21`), 400, "invalid_value", "top_logprobs must be a whole number between 0 and 20"},
		{"J10", chats, chatWith(`"top_logprobs":2`), 400, "invalid_value", "top_logprobs needs logprobs"},
		{"J10", completions, `{"model":"m","n":128,"prompt":` + list(8, `"a"`) + `}`, 400, "invalid_value", "at most 1000 prompts times n"},

		{"J11", chats, chatWith(`"stop":""`), 400, "invalid_value", "stop must be a string that is not empty"},
		{"J11", chats, chatWith(`"stop":[""]`), 400, "invalid_value", "stop[0] must be a string that is not empty"},
		{"J11", chats, chatWith(`"stop":["a","b","c","d","e"]`), 200, "", ""},
		{"J11", chats, chatWith(`"stop":[]`), 200, "", ""},
		{"J11", chats, chatWith(`"stop":` + list(17, `"a"`)), 400, "invalid_value", "at most 16 strings"},
		{"J11", chats, chatWith(`"stop":"` + huge(1<<20) + `"`), 400, "invalid_value", "at most 1024 bytes"},
		{"J11", chats, chatWith(`"stop":["a",5]`), 400, "invalid_value", "stop[1] must be a string, got 5"},
		{"J11", chats, chatWith(`"stop":5`), 400, "invalid_value", "stop must be a string or a list"},

		{"J12", chats, chatWith(`"logit_bias":{"-1":1}`), 400, "invalid_value", "token ids between 0 and 258"},
		{"J12", chats, chatWith(fmt.Sprintf(`"logit_bias":{"%d":1}`, vocab)), 400, "invalid_value", `got "259"`},
		{"J12", chats, chatWith(`"logit_bias":{"abc":1}`), 400, "invalid_value", `got "abc"`},
		{"J12", chats, chatWith(`"logit_bias":{"1000000000":1}`), 400, "invalid_value", "logit_bias"},
		{"J12", chats, chatWith(`"logit_bias":{"1":1e9}`), 400, "invalid_value", "logit_bias.1 must be a number between -100 and 100, got 1e9"},
		{"J12", chats, chatWith(`"logit_bias":{"1":NaN}`), 400, "invalid_json", "unexpected 'N'"},
		{"J12", chats, chatWith(`"logit_bias":[1]`), 400, "invalid_value", "logit_bias must be an object"},
		{"J12", chats, chatWith(`"logit_bias":` + biases(1_000_000)), 413, "request_too_large", "4194304 bytes"},
		{"J12", chats, chatWith(`"logit_bias":` + biases(vocab)), 200, "", ""},

		{"J13", chats, chatWith(fmt.Sprintf(`"stop_token_ids":[%d]`, vocab)), 400, "invalid_value", "stop_token_ids[0] must be a whole number between 0 and 258, got 259"},
		{"J13", chats, chatWith(`"stop_token_ids":[]`), 200, "", ""},
		{"J13", chats, chatWith(`"stop_token_ids":` + list(1_000_000, "1")), 400, "invalid_value", "at most 128"},
		{"J13", chats, chatWith(`"bad_words":["x"]`), 400, "unsupported_parameter", "word lists are not supported"},
		{"J13", chats, chatWith(`"allowed_token_ids":[1]`), 400, "unsupported_parameter", "word lists are not supported"},

		{"J14", chats, chatWith(`"response_format":{"type":"yaml"}`), 400, "invalid_value", `response_format.type must be "text", got "yaml"`},
		{"J14", chats, chatWith(`"response_format":{"type":"json_object"}`), 400, "unsupported_parameter", "structured output is not supported"},
		{"J14", chats, chatWith(`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"pattern":"(a+)+$"}}}`), 400, "unsupported_parameter", "structured output"},
		{"J14", chats, chatWith(`"response_format":{"type":"json_schema","json_schema":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000) + `}`), 400, "invalid_json", "deeper"},
		{"J14", chats, chatWith(`"response_format":"json"`), 400, "invalid_value", "response_format must be an object"},
		{"J14", chats, chatWith(`"response_format":{"type":"text"}`), 200, "", ""},
		{"J14", completions, completionWith(`"grammar":"` + strings.Repeat("(", 60_000) + `"`), 400, "unsupported_parameter", "structured output"},

		{"J15", chats, chatWith(`"tools":` + list(10_000, `{"type":"function","function":{"name":"f"}}`)), 400, "unsupported_parameter", "tools are not supported"},
		{"J15", chats, chatWith(`"tools":[{"type":"function","function":{"name":"a b","parameters":null}}]`), 400, "unsupported_parameter", "tools are not supported"},
		{"J15", chats, chatWith(`"tool_choice":{"type":"function","function":{"name":"f"}}`), 400, "unsupported_parameter", "tool_choice"},
		{"J15", chats, chatWith(`"tool_choice":"required"`), 400, "unsupported_parameter", "tool_choice"},
		{"J15", chats, chatWith(`"tool_choice":"perhaps"`), 400, "invalid_value", "tool_choice"},
		{"J15", chats, chatWith(`"tools":[],"tool_choice":"none"`), 200, "", ""},
		{"J15", chats, chatWith(`"functions":[]`), 400, "unsupported_parameter", "functions are not supported"},
		{"J15", "/apply-template", chatWith(`"tools":` + list(10_000, `{}`)), 400, "invalid_value", "at most 256 tools"},

		{"J16", chats, messages(`[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]}]`), 400, "unsupported_parameter", "images are not supported: messages[0].content[0] is one"},
		{"J16", chats, messages(`[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///../../etc/passwd"}}]}]`), 400, "unsupported_parameter", "images are not supported"},
		{"J16", chats, messages(`[{"role":"user","content":[{"type":"text","text":"a"},{"type":"input_audio","input_audio":{}}]}]`), 400, "unsupported_parameter", "audio is not supported: messages[0].content[1]"},
		{"J16", chats, messages(`[{"role":"user","content":[{"type":"video_url","video_url":{}}]}]`), 400, "unsupported_parameter", "video is not supported"},
		{"J16", chats, messages(`[{"role":"user","content":[{"type":"file","file":{}}]}]`), 400, "unsupported_parameter", "files are not supported"},

		{"J17", chats, chatWith(`"stream_options":{"include_usage":true}`), 400, "invalid_value", "stream_options needs stream"},
		{"J17", chats, chatWith(`"stream":true,"stream_options":{"include_usage":"yes"}`), 400, "invalid_value", `stream_options.include_usage must be true or false, got "yes"`},
		{"J17", chats, chatWith(`"stream":true,"stream_options":{"often":true}`), 400, "unknown_parameter", "stream_options.often"},
		{"J17", chats, chatWith(`"stream":true,"stream_options":[]`), 400, "invalid_value", "stream_options must be an object"},

		{"J18", completions, prompt(`[]`), 400, "invalid_value", "prompt must hold at least one token id"},
		{"J18", completions, prompt(`[-1]`), 400, "invalid_value", "prompt[0] must be a whole number between 0 and 258, got -1"},
		{"J18", completions, prompt(fmt.Sprintf(`[1,%d]`, vocab)), 400, "invalid_value", "prompt[1]"},
		{"J18", completions, prompt(`[[1],"x"]`), 400, "invalid_value", `prompt[1] must be`},
		{"J18", completions, prompt(`["x",[1]]`), 400, "invalid_value", `prompt[1] must be`},
		{"J18", completions, prompt(`[1,"x"]`), 400, "invalid_value", `prompt[1] must be a whole number`},
		{"J18", completions, prompt(`[[1],[]]`), 400, "invalid_value", "prompt[1] must hold at least one"},
		{"J18", completions, prompt(`[true]`), 400, "invalid_value", "prompt[0] must be"},
		{"J18", completions, prompt(list(1_000_000, "1")), 400, "context_length_exceeded", "more ids than the context of 2048 tokens"},
		{"J18", completions, `{"model":"m","prompt":"","add_special_tokens":false}`, 400, "invalid_value", "prompt must make at least one token"},
		{"J18", completions, prompt(`{}`), 400, "invalid_value", "prompt must be a string, a list of strings"},
		{"J18", completions, `{"model":"m"}`, 400, "missing_required_parameter", "prompt is missing"},
		{"J18", completions, completionWith(`"echo":true,"logprobs":1`), 400, "unsupported_parameter", "echo with logprobs is not supported"},
		{"J18", completions, completionWith(`"echo":true,"max_tokens":0`), 400, "invalid_value", "max_tokens"},
		{"J18", completions, completionWith(`"suffix":"x"`), 400, "unsupported_parameter", "suffix is not supported"},
		{"J18", completions, completionWith(`"prompt_embeds":"x"`), 400, "unsupported_parameter", "prompt_embeds is not supported"},
		{"J18", completions, prompt(list(1001, `"a"`)), 400, "invalid_value", "at most 1000 prompts"},

		{"J19", "/v1/embeddings", `{"model":"m","input":""}`, 404, "route_not_found", "there is no route /v1/embeddings"},

		{"J20", chats, chatWith(`"user":"a\r\nX-Evil: 1\u0000"`), 200, "", ""},
		{"J20", chats, `{"model":"m\r\nX-Evil: 1","messages":[{"role":"user","content":"hi"}]}`, 404, "model_not_found", "m\uFFFD"},
		{"J20", chats, chatWith(`"x\r\ny":1`), 400, "unknown_parameter", "unknown field"},

		{"T6", chats, messages(`[]`), 400, "invalid_value", "messages must hold at least one message"},
		{"T6", chats, messages(`"hi"`), 400, "invalid_value", "messages must be a list of messages"},
		{"T6", chats, messages(`["hi"]`), 400, "invalid_value", `messages[0] must be an object, got "hi"`},
		{"T6", chats, messages(`[{"role":"system","content":"a"},{"role":"system","content":"b"},{"role":"user","content":"c"}]`), 200, "", ""},
		{"T6", chats, messages(`[{"role":"assistant","content":"a"}]`), 400, "template_error", "a chat begins with the user"},
		{"T6", chats, messages(`[{"role":"wizard","content":"a"}]`), 400, "invalid_value", `messages[0].role must be "system"`},
		{"T6", chats, messages(`[{"content":"a"}]`), 400, "missing_required_parameter", "messages[0].role is missing"},
		{"T6", chats, messages(`[{"role":7,"content":"a"}]`), 400, "invalid_value", "messages[0].role must be a string, got 7"},
		{"T6", chats, messages(`[{"role":"user","content":null}]`), 400, "missing_required_parameter", "messages[0].content is missing"},
		{"T6", chats, messages(`[{"role":"user"}]`), 400, "missing_required_parameter", "messages[0].content is missing"},
		{"T6", chats, messages(`[{"role":"user","content":[]}]`), 400, "invalid_value", "messages[0].content must hold at least one part"},
		{"T6", chats, messages(`[{"role":"user","content":7}]`), 400, "invalid_value", "messages[0].content must be a string or a list"},
		{"T6", chats, messages(`[{"role":"user","content":["a"]}]`), 400, "invalid_value", "messages[0].content[0] must be an object"},
		{"T6", chats, messages(`[{"role":"user","content":[{"type":"text"}]}]`), 400, "missing_required_parameter", "messages[0].content[0].text is missing"},
		{"T6", chats, messages(`[{"role":"user","content":"a"},{"role":"tool","content":"b"}]`), 400, "missing_required_parameter", "messages[1].tool_call_id is missing"},
		{"T6", chats, messages(`[{"role":"user","content":"a","tool_calls":[]}]`), 400, "invalid_value", "belongs to a message of the assistant"},
		{"T6", chats, messages(`[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]`), 400, "invalid_value", "messages[1].tool_calls[0].function.arguments must be a JSON object in a string"},
		{"T6", chats, messages(list(10_000, `{"role":"user","content":"a"}`)), 400, "invalid_value", "at most 4096 messages"},
		{"T6", chats, messages(`[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},{"role":"tool","tool_call_id":"1","content":"b"}]`), 200, "", ""},

		{"T7", chats, chatWith(`"chat_template_kwargs":{"messages":[]}`), 400, "invalid_value", "chat_template_kwargs must not set messages"},
		{"T7", chats, chatWith(`"chat_template_kwargs":{"tools":[]}`), 400, "invalid_value", "must not set tools"},
		{"T7", chats, chatWith(`"chat_template_kwargs":{"tokenize":true}`), 400, "invalid_value", "must not set tokenize"},
		{"T7", chats, chatWith(`"chat_template_kwargs":{"chat_template":"x"}`), 400, "invalid_value", "must not set chat_template"},
		{"T7", chats, chatWith(`"chat_template_kwargs":{"bos_token":"x"}`), 400, "invalid_value", "must not set bos_token"},
		{"T7", chats, chatWith(`"chat_template_kwargs":[]`), 400, "invalid_value", "chat_template_kwargs must be an object"},
		{"T7", chats, chatWith(`"chat_template":"{{ 1 }}"`), 400, "unsupported_parameter", "the model's own is used"},
		{"T7", chats, chatWith(`"chat_template_kwargs":{"enable_thinking":false}`), 200, "", ""},

		{"other", chats, chatWith(`"temprature":1`), 400, "unknown_parameter", `unknown field "temprature"`},
		{"other", chats, chatWith(`"modalities":["text","audio"]`), 400, "unsupported_parameter", "modalities other than text"},
		{"other", chats, chatWith(`"lora":[{"id":0,"scale":1}]`), 400, "unsupported_parameter", "LoRA adapters are not supported"},
		{"other", chats, chatWith(`"reasoning_effort":"huge"`), 400, "invalid_value", "reasoning_effort"},
		{"other", chats, chatWith(`"cache_salt":""`), 400, "invalid_value", "cache_salt"},
		{"other", chats, chatWith(`"continue_final_message":true,"add_generation_prompt":true`), 400, "invalid_value", "exclude each other"},
		{"other", chats, chatWith(`"temperature":null,"tools":null,"stream_options":null,"metadata":{"a":"b"},"store":true,"n":null`), 200, "", ""},
		{"other", "/tokenize", `{}`, 400, "missing_required_parameter", "content is missing"},
		{"other", "/tokenize", `{"content":7}`, 400, "invalid_value", "content must be a string or a list"},
		{"other", "/tokenize", `{"content":[1.5]}`, 400, "invalid_value", "content[0] must be a whole number"},
		{"other", "/tokenize", `{"prompt":"x"}`, 400, "unknown_parameter", `unknown field "prompt"`},
		{"other", "/detokenize", `{}`, 400, "missing_required_parameter", "tokens is missing"},
		{"other", "/detokenize", `{"tokens":[1,999]}`, 400, "invalid_value", "tokens[1] must be"},
		{"other", "/apply-template", `{"messages":[]}`, 400, "invalid_value", "at least one message"},
	} {
		title := row.body
		if len(title) > 40 {
			title = title[:40]
		}
		t.Run(row.name+"/"+title, func(t *testing.T) {
			e := &scripted{script: says("ok")}
			w := post(newServer(t, options(t, e)), row.path, row.body, "Content-Type", "application/json")
			if row.status == 200 {
				if w.Code != 200 {
					t.Fatalf("got %d %s, want 200", w.Code, w.Body)
				}
				return
			}
			wantError(t, w.Code, w.Body.Bytes(), row.status, row.code, row.message)
			if n := len(e.requests); n > 0 {
				t.Errorf("%d requests reached the engine", n)
			}
			if w.Header().Get("X-Evil") != "" || w.Header().Get("X-Request-Id") == "" {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

// biases is a logit_bias of n entries.
func biases(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%d":-100`, i)
	}
	b.WriteByte('}')
	return b.String()
}

// TestDefinedInput holds what the inputs that look bad and are defined mean.
func TestDefinedInput(t *testing.T) {
	ask := func(path, body string) runtime.Request {
		t.Helper()
		e := &scripted{script: says("ok")}
		if w := post(newServer(t, options(t, e)), path, body); w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", body, w.Code, w.Body)
		}
		return e.request(t, 0)
	}
	if s := ask(chatPath, chatWith(`"temperature":1e-30`)).Sampling; s.Temperature != 0 {
		t.Errorf("temperature 1e-30 is %v, want greedy", s.Temperature)
	}
	for body, want := range map[string]uint64{`"seed":9007199254740993`: 1<<53 + 1, `"seed":-1`: 1<<64 - 1, `"seed":0`: 0} {
		if s := ask(chatPath, chatWith(body)).Sampling.Seed; s == nil || *s != want {
			t.Errorf("%s is %v, want %d", body, s, want)
		}
	}
	if s := ask(chatPath, chatWith("")).Sampling.Seed; s != nil {
		t.Errorf("a request without a seed has %d", *s)
	}
	for body, want := range map[string]int{`"top_k":-1`: 0, `"top_k":7`: 7, `"top_k":2147483647`: 0} {
		if k := ask(chatPath, chatWith(body)).Sampling.TopK; k != want {
			t.Errorf("%s is %d, want %d", body, k, want)
		}
	}
	if r := ask(completionPath, completionWith("")); r.MaxTokens != 16 || len(r.Prompt) != 3 || r.Prompt[0] != endOfText || r.Logprobs != -1 {
		t.Errorf("a plain completion is %+v", r)
	}
	if r := ask(completionPath, completionWith(`"min_tokens":20`)); r.MaxTokens != 20 {
		t.Errorf("min_tokens above the default of max_tokens: %d tokens, want 20", r.MaxTokens)
	}
	if r := ask(completionPath, prompt(`"`+strings.Repeat("x", testContext-6)+`"`)); r.MaxTokens != 5 {
		t.Errorf("a default of max_tokens beyond the context: %d tokens, want the 5 that are left", r.MaxTokens)
	}
	r := ask(chatPath, chatWith(""))
	if want := testContext - len(r.Prompt); r.MaxTokens != want {
		t.Errorf("a chat without max_tokens: %d tokens, want the %d that are left", r.MaxTokens, want)
	}
	r = ask(chatPath, chatWith(`"max_completion_tokens":7,"stop":["a","b"],"stop_token_ids":[5],"ignore_eos":true,"min_tokens":2,
		"include_stop_str_in_output":true,"skip_special_tokens":false,"cache_salt":"s","logprobs":true,"top_logprobs":3,
		"logit_bias":{"65":-100,"66":2.5},"top_p":0.5,"min_p":0.25,"repetition_penalty":1.5,"presence_penalty":-1,"frequency_penalty":2`))
	if r.MaxTokens != 7 || len(r.Stop) != 2 || r.StopIDs[0] != 5 || !r.IgnoreEOS || r.MinTokens != 2 || !r.IncludeStop || !r.KeepSpecial ||
		r.Salt != "s" || r.Logprobs != 3 || r.Sampling.LogitBias[65] != -100 || r.Sampling.LogitBias[66] != 2.5 || r.Sampling.TopP != 0.5 ||
		r.Sampling.MinP != 0.25 || r.Sampling.RepetitionPenalty != 1.5 || r.Sampling.PresencePenalty != -1 || r.Sampling.FrequencyPenalty != 2 {
		t.Errorf("the fields arrive as %+v", r)
	}
}

// TestPrecedence: request, then flag, then generation_config.json, then the engine's default.
func TestPrecedence(t *testing.T) {
	f := func(x float32) *float32 { return &x }
	n := func(x int) *int { return &x }
	no := false
	sampling := func(change func(o *openai.Options), fields string) runtime.Sampling {
		t.Helper()
		e := &scripted{script: says("ok")}
		o := options(t, e)
		change(&o)
		if w := post(newServer(t, o), chatPath, chatWith(fields)); w.Code != 200 {
			t.Fatal(w.Body)
		}
		return e.request(t, 0).Sampling
	}
	none := func(*openai.Options) {}
	model := func(o *openai.Options) {
		o.Generation.Temperature, o.Generation.TopP, o.Generation.TopK = f(0.6), f(0.95), n(40)
	}
	flag := func(o *openai.Options) { model(o); o.Defaults.Temperature = f(0.3) }
	for _, c := range []struct {
		change func(*openai.Options)
		fields string
		want   float32
		topP   float32
		topK   int
	}{
		{none, "", 1, 1, 0},
		{model, "", 0.6, 0.95, 40},
		{flag, "", 0.3, 0.95, 40},
		{flag, `"temperature":1.5,"top_k":0`, 1.5, 0.95, 0},
		{func(o *openai.Options) { model(o); o.Generation.DoSample = &no }, "", 0, 0.95, 40},
	} {
		if s := sampling(c.change, c.fields); s.Temperature != c.want || s.TopP != c.topP || s.TopK != c.topK {
			t.Errorf("%s: got %+v, want temperature %v, top_p %v, top_k %v", c.fields, s, c.want, c.topP, c.topK)
		}
	}
}
