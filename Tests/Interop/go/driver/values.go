package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var variable = regexp.MustCompile(`\$\{([^}]+)\}`)

// variables is what a case has saved, and the ids that it has made.
type variables map[string]string

// text replaces the variables in a string.
func (v variables) text(text string) (replaced string, err error) {
	replaced = variable.ReplaceAllStringFunc(text, func(found string) string {
		name := variable.FindStringSubmatch(found)[1]
		if _, known := v[name]; !known {
			if !strings.HasPrefix(name, "uuid:") {
				err = fmt.Errorf("nothing was saved as %s", name)
			}
			id := make([]byte, 16)
			if _, failure := rand.Read(id); failure != nil {
				err = failure
			}
			v[name] = base64.StdEncoding.EncodeToString(id)
		}
		return v[name]
	})
	return replaced, err
}

// fill replaces the variables in a value, and JSON by its bytes unless the value is a pattern.
func (v variables) fill(value any, isPattern bool) (any, error) {
	switch value := value.(type) {
	case string:
		return v.text(value)
	case []any:
		filled := make([]any, len(value))
		for index, one := range value {
			var err error
			if filled[index], err = v.fill(one, isPattern); err != nil {
				return nil, err
			}
		}
		return filled, nil
	case map[string]any:
		filled := map[string]any{}
		for name, one := range value {
			var err error
			if filled[name], err = v.fill(one, isPattern); err != nil {
				return nil, err
			}
		}
		if content, isJSON := filled["$json"]; isJSON && !isPattern {
			text, err := json.Marshal(content)
			return base64.StdEncoding.EncodeToString(text), err
		}
		return filled, nil
	}
	return value, nil
}

// save keeps what lies at the paths of an answer.
func (v variables) save(paths any, answer any) error {
	for name, path := range object(paths) {
		value := answer
		for _, part := range strings.Split(path.(string), ".") {
			switch container := value.(type) {
			case map[string]any:
				value = container[part]
			case []any:
				index, err := strconv.Atoi(part)
				if index < 0 {
					index += len(container)
				}
				if err != nil || index < 0 || index >= len(container) {
					return fmt.Errorf("there is no %s in the answer", path)
				}
				value = container[index]
			default:
				return fmt.Errorf("there is no %s in the answer", path)
			}
		}
		v[name] = fmt.Sprint(value)
	}
	return nil
}

// object returns a JSON object; an empty one for anything else.
func object(value any) map[string]any {
	found, _ := value.(map[string]any)
	return found
}

// toJSON returns a message in protobuf's JSON mapping, with default values.
func toJSON(message proto.Message) (any, error) {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var value any
	err = json.Unmarshal(text, &value)
	return value, err
}

// match tells where and how a value does not match a pattern.
func match(pattern, value any, path string) error {
	switch pattern := pattern.(type) {
	case map[string]any:
		if expected, isJSON := pattern["$json"]; isJSON {
			text, _ := value.(string)
			stored, err := base64.StdEncoding.DecodeString(text)
			var content any
			if err == nil {
				err = json.Unmarshal(stored, &content)
			}
			if err != nil || !reflect.DeepEqual(expected, content) {
				return fmt.Errorf("%s: %s is not %v", path, stored, expected)
			}
			return nil
		}
		if count, isCount := pattern["$count"]; isCount {
			if elements, isArray := value.([]any); !isArray || float64(len(elements)) != count {
				return fmt.Errorf("%s: %v has not %v elements", path, value, count)
			}
			return nil
		}
		if parts, isContains := pattern["$contains"]; isContains {
			return contains(parts.([]any), value, path)
		}
		members, isObject := value.(map[string]any)
		if !isObject {
			return fmt.Errorf("%s: %v is no object", path, value)
		}
		for name, one := range pattern {
			if err := match(one, members[name], path+"."+name); err != nil {
				return err
			}
		}
		return nil
	case []any:
		elements, isArray := value.([]any)
		if !isArray || len(elements) != len(pattern) {
			return fmt.Errorf("%s: %v has not %d elements", path, value, len(pattern))
		}
		for index, one := range pattern {
			if err := match(one, elements[index], fmt.Sprintf("%s.%d", path, index)); err != nil {
				return err
			}
		}
		return nil
	}
	if pattern != value {
		return fmt.Errorf("%s: %#v is not %#v", path, value, pattern)
	}
	return nil
}

func contains(parts []any, value any, path string) error {
	elements, _ := value.([]any)
	for _, part := range parts {
		isFound := false
		for _, element := range elements {
			isFound = isFound || match(part, element, "") == nil
		}
		if !isFound {
			return fmt.Errorf("%s: nothing matches %v", path, part)
		}
	}
	return nil
}
