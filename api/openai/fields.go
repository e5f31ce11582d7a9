package openai

import (
	"math"
	"strconv"
)

// A field is what this server does with a field of a request: exactly one of set, ignored and refused is there. null
// is the same as leaving the field out, as in OpenAI's schema. docs/api.md shows these tables to clients, and a test
// holds it equal to them.
type field struct {
	set     func(q *request, v value) error
	ignored string // why leaving it aside does not change what the client gets
	refused string // the sentence that names what does not exist
}

const (
	noStructure = "structured output is not supported"
	noBeams     = "beam search is not supported"
	noSampler   = "this sampler is not supported: temperature, top_p, top_k, min_p and the penalties are"
	noWordLists = "word lists are not supported: use logit_bias, or stop"
)

// commonFields are the fields that chat and completions share.
var commonFields = map[string]field{
	"model":                      {set: setModel},
	"n":                          {set: setN},
	"stream":                     {set: func(q *request, v value) (err error) { q.stream, err = v.boolean(); return err }},
	"stream_options":             {set: setStreamOptions},
	"max_tokens":                 {set: func(q *request, v value) error { return setInt(&q.maxTokens, v, 1, math.MaxInt32) }},
	"min_tokens":                 {set: func(q *request, v value) error { return setInt(&q.minTokens, v, 0, math.MaxInt32) }},
	"seed":                       {set: setSeed},
	"stop":                       {set: setStop},
	"stop_token_ids":             {set: setStopIDs},
	"ignore_eos":                 {set: func(q *request, v value) (err error) { q.ignoreEOS, err = v.boolean(); return err }},
	"include_stop_str_in_output": {set: func(q *request, v value) (err error) { q.includeStop, err = v.boolean(); return err }},
	"skip_special_tokens":        {set: setSkipSpecial},
	"add_special_tokens":         {set: func(q *request, v value) error { return setOptional(&q.addSpecial, v) }},
	"temperature":                {set: setTemperature},
	"top_p":                      {set: setTopP},
	"top_k":                      {set: setTopK},
	"min_p":                      {set: func(q *request, v value) error { return setFloat(&q.sampling.MinP, v, 0, 1) }},
	"repetition_penalty":         {set: func(q *request, v value) error { return setFloat(&q.sampling.RepetitionPenalty, v, 0.01, 100) }},
	"presence_penalty":           {set: func(q *request, v value) error { return setFloat(&q.sampling.PresencePenalty, v, -2, 2) }},
	"frequency_penalty":          {set: func(q *request, v value) error { return setFloat(&q.sampling.FrequencyPenalty, v, -2, 2) }},
	"logit_bias":                 {set: setLogitBias},
	"cache_salt":                 {set: setSalt},
	"response_format":            {set: setResponseFormat},

	"user":                   {ignored: "names the end user; nothing is kept per user"},
	"metadata":               {ignored: "labels for OpenAI's dashboard"},
	"store":                  {ignored: "nothing is stored"},
	"service_tier":           {ignored: "there is one tier"},
	"safety_identifier":      {ignored: "names the end user; nothing is kept per user"},
	"prompt_cache_key":       {ignored: "prefixes are reused whenever they match"},
	"prompt_cache_retention": {ignored: "prefixes are kept as long as there is room"},

	"structured_outputs":     {refused: noStructure},
	"guided_json":            {refused: noStructure},
	"guided_regex":           {refused: noStructure},
	"guided_choice":          {refused: noStructure},
	"guided_grammar":         {refused: noStructure},
	"json_schema":            {refused: noStructure},
	"grammar":                {refused: noStructure},
	"regex":                  {refused: noStructure},
	"ebnf":                   {refused: noStructure},
	"prompt_embeds":          {refused: "prompt_embeds is not supported: send text or token ids"},
	"prompt_logprobs":        {refused: "prompt_logprobs is not supported: log-probabilities of prompt tokens are not computed"},
	"lora":                   {refused: "LoRA adapters are not supported"},
	"lora_request":           {refused: "LoRA adapters are not supported"},
	"adapter_id":             {refused: "LoRA adapters are not supported"},
	"bad_words":              {refused: noWordLists},
	"allowed_token_ids":      {refused: noWordLists},
	"use_beam_search":        {refused: noBeams},
	"length_penalty":         {refused: noBeams},
	"early_stopping":         {refused: noBeams},
	"repeat_penalty":         {refused: "repeat_penalty is called repetition_penalty here"},
	"n_predict":              {refused: "n_predict is called max_tokens here"},
	"num_predict":            {refused: "num_predict is called max_tokens here"},
	"typical_p":              {refused: noSampler},
	"tfs_z":                  {refused: noSampler},
	"mirostat":               {refused: noSampler},
	"dry_multiplier":         {refused: noSampler},
	"xtc_probability":        {refused: noSampler},
	"dynatemp_range":         {refused: noSampler},
	"return_token_ids":       {refused: "return_token_ids is not supported: /tokenize gives the ids of a text"},
	"truncate_prompt_tokens": {refused: "truncate_prompt_tokens is not supported: a prompt is never cut silently"},
	"priority":               {refused: "priority is not supported: requests are served in order of arrival"},
	"request_id":             {refused: "request_id is not supported: send the header X-Request-Id"},
}

// chatFields are the fields of /v1/chat/completions and /apply-template beyond the common ones.
var chatFields = map[string]field{
	"messages":               {set: func(q *request, v value) error { q.messages = v; return nil }},
	"max_completion_tokens":  {set: func(q *request, v value) error { return setInt(&q.completionMax, v, 1, math.MaxInt32) }},
	"logprobs":               {set: func(q *request, v value) (err error) { q.wantLogprobs, err = v.boolean(); return err }},
	"top_logprobs":           {set: func(q *request, v value) error { return setInt(&q.topLogprobs, v, 0, maxTop) }},
	"add_generation_prompt":  {set: func(q *request, v value) error { return setOptional(&q.addPrompt, v) }},
	"continue_final_message": {set: func(q *request, v value) (err error) { q.continueFinal, err = v.boolean(); return err }},
	"chat_template_kwargs":   {set: setKwargs},
	"reasoning_effort":       {set: setEffort},
	"tools":                  {set: setTools},
	"tool_choice":            {set: setToolChoice},
	"modalities":             {set: setModalities},

	"parallel_tool_calls": {ignored: "says how tools are called, and there are none"},
	"prediction":          {ignored: "a hint for speed"},
	"verbosity":           {ignored: "a hint to OpenAI's own models"},

	"functions":          {refused: "functions are not supported"},
	"function_call":      {refused: "functions are not supported"},
	"audio":              {refused: "audio is not supported"},
	"web_search_options": {refused: "web search is not supported"},
	"chat_template":      {refused: "a chat_template in a request is not supported: the model's own is used"},
	"documents":          {refused: "documents are not supported as a field: put them into the messages"},
	"echo":               {refused: "echo is not supported in a chat"},
}

// completionFields are the fields of /v1/completions beyond the common ones.
var completionFields = map[string]field{
	"prompt":   {set: func(q *request, v value) error { q.prompt = v; return nil }},
	"echo":     {set: func(q *request, v value) (err error) { q.echo, err = v.boolean(); return err }},
	"logprobs": {set: func(q *request, v value) error { return setInt(&q.logprobs, v, 0, maxLegacyTop) }},
	"best_of":  {set: func(q *request, v value) error { return setInt(&q.bestOf, v, 1, maxPrompts) }},
	"suffix":   {set: setSuffix},
}

func setInt(to *int, v value, low, high int64) error {
	i, err := v.integer(low, high)
	if err == nil {
		*to = int(i)
	}
	return err
}

func setFloat(to *float32, v value, low, high float64) error {
	f, err := v.number(low, high)
	if err == nil {
		*to = float32(f)
	}
	return err
}

func setOptional(to **bool, v value) error {
	b, err := v.boolean()
	if err == nil {
		*to = &b
	}
	return err
}

func setModel(q *request, v value) error {
	name, err := v.str()
	if err != nil {
		return err
	}
	if name == "" || len(name) > maxModelBytes {
		return v.wrong("the name of a model")
	}
	q.model = name
	return nil
}

func setN(q *request, v value) error { return setInt(&q.n, v, 1, int64(q.maxChoices)) }

// setSeed takes the 64 bits as they are: -1 is a seed like any other.
func setSeed(q *request, v value) error {
	i, err := v.integer(math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	seed := uint64(i)
	q.sampling.Seed = &seed
	return nil
}

func setStreamOptions(q *request, v value) error {
	if v.kind() != '{' {
		return v.wrong("an object")
	}
	for name, m := range v.members() {
		if m.isNull() {
			continue
		}
		on, err := false, error(nil)
		switch name {
		case "include_usage":
			q.usage, err = m.boolean()
		case "include_obfuscation": // padding against an observer of encrypted streams; there is none to leave out
			_, err = m.boolean()
		case "continuous_usage_stats":
			if on, err = m.boolean(); on {
				err = unsupported(m.path, m.path+" is not supported: include_usage sends the counts at the end")
			}
		default:
			err = invalid(m.path, "unknown_parameter", "unknown field %q", m.path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func setStop(q *request, v value) error {
	want := "a string or a list of at most " + strconv.Itoa(maxStops) + " strings"
	add := func(v value) error {
		text, err := v.str()
		switch {
		case err != nil:
			return err
		case text == "":
			return v.wrong("a string that is not empty")
		case len(text) > maxStopBytes:
			return v.wrong("at most " + strconv.Itoa(maxStopBytes) + " bytes long")
		}
		q.stop = append(q.stop, text)
		return nil
	}
	switch v.kind() {
	case '"':
		return add(v)
	case '[':
		for i, e := range v.elements() {
			if i == maxStops {
				return v.wrong(want)
			}
			if err := add(e.at(i)); err != nil {
				return err
			}
		}
		return nil
	}
	return v.wrong(want)
}

func setStopIDs(q *request, v value) error {
	want := "a list of at most " + strconv.Itoa(maxStopIDs) + " token ids"
	if v.kind() != '[' {
		return v.wrong(want)
	}
	for i, e := range v.elements() {
		if i == maxStopIDs {
			return v.wrong(want)
		}
		id, err := e.at(i).integer(0, int64(q.vocab)-1)
		if err != nil {
			return err
		}
		q.stopIDs = append(q.stopIDs, int32(id))
	}
	return nil
}

func setSkipSpecial(q *request, v value) error {
	skip, err := v.boolean()
	q.keepSpecial = !skip
	return err
}

// minTemperature is the least temperature that is sampled with; anything less is greedy. Logits divided by less than
// this leave the range in which float32 can tell them apart (vLLM draws the line at the same place).
const minTemperature = 1e-5

func setTemperature(q *request, v value) error {
	if err := setFloat(&q.sampling.Temperature, v, 0, 2); err != nil {
		return err
	}
	if q.sampling.Temperature < minTemperature {
		q.sampling.Temperature = 0
	}
	return nil
}

func setTopP(q *request, v value) error {
	if err := setFloat(&q.sampling.TopP, v, 0, 1); err != nil {
		return err
	}
	if q.sampling.TopP == 0 {
		return v.wrong("a number above 0 and up to 1 (temperature 0 is greedy)")
	}
	return nil
}

// setTopK takes 0 and -1 for off; a k that reaches the vocabulary filters nothing.
func setTopK(q *request, v value) error {
	k := 0
	if err := setInt(&k, v, -1, math.MaxInt32); err != nil {
		return err
	}
	if k < 0 || k >= q.vocab {
		k = 0
	}
	q.sampling.TopK = k
	return nil
}

func setLogitBias(q *request, v value) error {
	want := "an object of at most " + strconv.Itoa(maxBias) + " token ids and biases"
	if v.kind() != '{' {
		return v.wrong(want)
	}
	bias := map[int32]float32{}
	for name, m := range v.members() {
		if len(bias) == maxBias {
			return v.wrong(want)
		}
		id, err := strconv.ParseInt(name, 10, 32)
		if err != nil || id < 0 || id >= int64(q.vocab) {
			return invalid(m.path, "invalid_value", "logit_bias must have token ids between 0 and %d as keys, got %q", q.vocab-1, clip(printable(name)))
		}
		f, err := m.number(-100, 100)
		if err != nil {
			return err
		}
		bias[int32(id)] = float32(f)
	}
	if len(bias) > 0 {
		q.sampling.LogitBias = bias
	}
	return nil
}

func setSalt(q *request, v value) error {
	salt, err := v.str()
	if err == nil && (salt == "" || len(salt) > maxSaltBytes) {
		err = v.wrong("a string of 1 to " + strconv.Itoa(maxSaltBytes) + " bytes")
	}
	q.salt = salt
	return err
}

func setResponseFormat(_ *request, v value) error {
	if v.kind() != '{' {
		return v.wrong("an object")
	}
	t, ok := v.member("type")
	if !ok {
		return invalid(v.path+".type", "missing_required_parameter", "response_format.type is missing")
	}
	kind, err := t.str()
	if err != nil {
		return err
	}
	switch kind {
	case "text":
		return nil
	case "json_object", "json_schema", "structural_tag", "grammar":
		return unsupported(t.path, noStructure+`: response_format must be {"type": "text"}`)
	}
	return t.wrong(`"text"`)
}

func setTools(q *request, v value) error {
	if v.kind() != '[' {
		return v.wrong("a list")
	}
	count := 0
	for range v.elements() {
		count++
	}
	switch {
	case count == 0:
		return nil
	case !q.allowTools:
		return unsupported("tools", "tools are not supported: the model's answer is not parsed for calls (/apply-template renders them)")
	case count > maxTools:
		return v.wrong("a list of at most " + strconv.Itoa(maxTools) + " tools")
	}
	for i, e := range v.elements() {
		if e.kind() != '{' {
			return e.at(i).wrong("an object")
		}
	}
	q.tools = v
	return nil
}

func setToolChoice(q *request, v value) error {
	if v.kind() == '"' {
		choice, _ := v.str()
		switch choice {
		case "none":
			return nil
		case "auto", "required":
		default:
			return v.wrong(`"none"`)
		}
	} else if v.kind() != '{' {
		return v.wrong(`"none"`)
	}
	if q.allowTools {
		return nil
	}
	return unsupported("tool_choice", `tool_choice other than "none" is not supported: tools are not supported`)
}

func setModalities(_ *request, v value) error {
	if v.kind() != '[' {
		return v.wrong(`["text"]`)
	}
	for i, e := range v.elements() {
		kind, err := e.at(i).str()
		if err != nil {
			return err
		}
		if kind != "text" {
			return unsupported("modalities", "modalities other than text are not supported")
		}
	}
	return nil
}

func setSuffix(_ *request, v value) error {
	suffix, err := v.str()
	if err == nil && suffix != "" {
		err = unsupported("suffix", "suffix is not supported: there is no infilling")
	}
	return err
}

// reservedKwargs are names that the server itself gives to the template. A request that could set them would replace
// what was validated, or the template itself (CVE-2025-62426, CVE-2026-5760 are of this kind).
var reservedKwargs = map[string]bool{
	"messages": true, "tools": true, "tokenize": true, "chat_template": true, "add_generation_prompt": true,
	"continue_final_message": true, "bos_token": true, "eos_token": true, "pad_token": true, "unk_token": true,
	"conversation": true, "return_dict": true, "tokenizer_kwargs": true, "raise_exception": true, "strftime_now": true,
}

func setKwargs(q *request, v value) error {
	if v.kind() != '{' {
		return v.wrong("an object")
	}
	for name, m := range v.members() {
		if reservedKwargs[name] {
			return invalid(m.path, "invalid_value", "chat_template_kwargs must not set %s: the server sets it", name)
		}
	}
	q.kwargs = v
	return nil
}

func setEffort(q *request, v value) error {
	effort, err := v.str()
	if err != nil {
		return err
	}
	switch effort {
	case "none", "minimal", "low", "medium", "high", "xhigh", "max":
		q.effort = effort
		return nil
	}
	return v.wrong(`"none", "minimal", "low", "medium", "high", "xhigh" or "max"`)
}
