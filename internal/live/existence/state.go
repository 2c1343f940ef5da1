package existence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Resource is one resource that a Terraform state says exists.
type Resource struct {
	Address    string // "aws_sqs_queue.orders"
	Type       string // "aws_sqs_queue"
	attributes map[string]any
}

// text returns an attribute that is a string, or "".
func (r Resource) text(name string) string {
	s, _ := r.attributes[name].(string)
	return s
}

// stateFile is a Terraform state, format 4, as far as it is used here.
type stateFile struct {
	Version   int `json:"version"`
	Resources []struct {
		Module    string `json:"module"`
		Mode      string `json:"mode"`
		Type      string `json:"type"`
		Name      string `json:"name"`
		Instances []struct {
			IndexKey   any            `json:"index_key"`
			Attributes map[string]any `json:"attributes"`
		} `json:"instances"`
	} `json:"resources"`
}

// ReadState returns the resources that Terraform manages according to the state
// file, in its order. Without a file there are none.
func ReadState(file string) ([]Resource, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the Terraform state: %w", err)
	}
	var st stateFile
	if err := json.Unmarshal(data, &st); err != nil {
		return nil, fmt.Errorf("read the Terraform state %s: %w", file, err)
	}
	if st.Version != 4 {
		return nil, fmt.Errorf("read the Terraform state %s: its format is %d, not 4", file, st.Version)
	}
	var list []Resource
	for _, r := range st.Resources {
		if r.Mode != "managed" {
			continue
		}
		for _, i := range r.Instances {
			address := r.Type + "." + r.Name
			if r.Module != "" {
				address = r.Module + "." + address
			}
			switch key := i.IndexKey.(type) {
			case string:
				address += fmt.Sprintf("[%q]", key)
			case float64:
				address += fmt.Sprintf("[%d]", int(key))
			}
			list = append(list, Resource{Address: address, Type: r.Type, attributes: i.Attributes})
		}
	}
	return list, nil
}
