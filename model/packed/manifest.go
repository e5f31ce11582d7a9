package packed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strconv"
)

// The version of the format that this package writes (docs/format.md, section 3).
const (
	major = 1
	minor = 0
)

// Version is the same as it stands in the metadata.
var Version = fmt.Sprintf("%d.%d", major, minor)

// Method is what quant_method in config.json says, so that other programs refuse what they would misread.
const Method = "eckart"

// The keys of the metadata (docs/format.md, section 3).
const (
	versionKey     = "lm.version"
	planKey        = "lm.plan"
	sourceKey      = "lm.source"
	calibrationKey = "lm.calibration"
	producerKey    = "lm.producer"
)

// A Manifest is what the metadata of a checkpoint says of it.
type Manifest struct {
	Plan        []byte            // the JSON object that the planner wrote, without what is stored; nil for none
	Stored      map[string]Stored // the compressed matrices, by the names of their modules
	Source      string            // digest of the checkpoint that was compressed, as checkpoint.Digest returns it
	Calibration string            // JSON: the text and the settings that matrices were fitted with; empty for none
	Producer    string            // the program that wrote it, for people
}

// storedKey is the member of lm.plan that is the format's; all others are the planner's.
const storedKey = "stored"

// metadata returns m as the metadata of a checkpoint.
func (m Manifest) metadata() (map[string]string, error) {
	plan := map[string]json.RawMessage{}
	if m.Plan != nil {
		if err := unmarshal(m.Plan, &plan); err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		if _, ok := plan[storedKey]; ok {
			return nil, fmt.Errorf("plan: it has a member %q, which belongs to the format", storedKey)
		}
	}
	stored, err := json.Marshal(m.Stored)
	if err != nil {
		return nil, err
	}
	plan[storedKey] = stored
	text, err := json.Marshal(plan) // keys are sorted
	if err != nil {
		return nil, err
	}
	meta := map[string]string{"format": "pt", versionKey: Version, planKey: string(text)}
	for key, value := range map[string]string{sourceKey: m.Source, calibrationKey: m.Calibration, producerKey: m.Producer} {
		if value != "" {
			meta[key] = value
		}
	}
	return meta, nil
}

// parseManifest reads the metadata of a checkpoint that has a version.
func parseManifest(meta map[string]string) (Manifest, error) {
	if err := checkVersion(meta[versionKey]); err != nil {
		return Manifest{}, err
	}
	m := Manifest{Source: meta[sourceKey], Calibration: meta[calibrationKey], Producer: meta[producerKey]}
	text, ok := meta[planKey]
	if !ok {
		return m, nil
	}
	plan := map[string]json.RawMessage{}
	err := unmarshal([]byte(text), &plan)
	if err == nil && plan[storedKey] != nil {
		err = unmarshal(plan[storedKey], &m.Stored)
	}
	if err != nil {
		return m, fmt.Errorf("metadata %s: %w", planKey, err)
	}
	delete(plan, storedKey)
	if len(plan) > 0 {
		m.Plan, err = json.Marshal(plan)
	}
	return m, err
}

var versionPattern = regexp.MustCompile(`^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$`)

// checkVersion refuses versions that this package cannot know.
func checkVersion(text string) error {
	parts := versionPattern.FindStringSubmatch(text)
	if parts == nil {
		return fmt.Errorf("metadata %s is %.40q, want two numbers such as %q", versionKey, text, Version)
	}
	theirs, _ := strconv.Atoi(parts[1]) // of six digits at most
	after, _ := strconv.Atoi(parts[2])
	switch {
	case theirs != major:
		return fmt.Errorf("metadata %s is %q, and this program reads version %d: another major version is another format", versionKey, text, major)
	case after > minor:
		return fmt.Errorf("metadata %s is %q, and this program reads up to %q: a newer program is needed", versionKey, text, Version)
	}
	return nil
}

// unmarshal is json.Unmarshal for one object that has no key twice, at any depth, and no field that v has not:
// encoding/json keeps the last of two, so that another reader could see another matrix.
func unmarshal(text []byte, v any) error {
	if err := checkKeys(text); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// maxNesting bounds the depth of a plan.
const maxNesting = 64

// checkKeys returns an error where text is not one JSON object, or an object in it has a key twice.
func checkKeys(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	type level struct {
		seen  map[string]bool // nil in an array
		value bool            // what comes next in an object is a value
	}
	var open []level
	for {
		t, err := d.Token()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if len(open) == 0 && t != json.Delim('{') {
			return fmt.Errorf("want an object, have %v", t)
		}
		if key, ok := t.(string); ok && open[len(open)-1].seen != nil && !open[len(open)-1].value {
			top := &open[len(open)-1]
			if top.seen[key] {
				return fmt.Errorf("%.80q occurs twice", key)
			}
			top.seen[key], top.value = true, true
			continue
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if len(open) == maxNesting {
				return fmt.Errorf("values lie more than %d deep", maxNesting)
			}
			next := level{}
			if t == json.Delim('{') {
				next.seen = map[string]bool{}
			}
			open = append(open, next)
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if len(open) > 0 {
			open[len(open)-1].value = false
			continue
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return errors.New("something follows the object")
		}
		return nil
	}
}

// A settings is the quantization_config of config.json (docs/format.md, section 5).
type settings struct {
	Method  string          `json:"quant_method"`
	Version string          `json:"version"`
	Base    json.RawMessage `json:"base,omitempty"` // the quantization_config of matrices that were left as they were
}

// configKey is the member of config.json that other programs look at.
const configKey = "quantization_config"

// withSettings returns config.json with our quantization_config.
func withSettings(config []byte, base json.RawMessage) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fmt.Errorf("read config.json: %w", err)
	}
	text, err := json.Marshal(settings{Method: Method, Version: Version, Base: base})
	if err != nil {
		return nil, err
	}
	fields[configKey] = text
	delete(fields, olderConfigKey)
	text, err = json.MarshalIndent(fields, "", "  ")
	return append(text, '\n'), err
}

// olderConfigKey is the name of configKey in older files of compressed-tensors.
const olderConfigKey = "compression_config"

// ours returns what config.json says where its quantization_config is ours, and the config with that of what was left
// as it was in its place.
func ours(config []byte) (s settings, rest []byte, ok bool, err error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &fields); err != nil {
		return s, nil, false, fmt.Errorf("read config.json: %w", err)
	}
	// Of another method's object nothing else need be known.
	var method struct {
		Method string `json:"quant_method"`
	}
	if json.Unmarshal(fields[configKey], &method) != nil || method.Method != Method {
		return s, config, false, nil
	}
	if err := unmarshal(fields[configKey], &s); err != nil {
		return s, nil, true, fmt.Errorf("read config.json: %s: %w", configKey, err)
	}
	fields = maps.Clone(fields)
	if delete(fields, configKey); s.Base != nil {
		fields[configKey] = s.Base
	}
	rest, err = json.Marshal(fields)
	return s, rest, true, err
}
