package observe

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// DashboardQuery is one PromQL query of a dashboard, ready to be run.
type DashboardQuery struct {
	File  string // the dashboard's file
	Panel string // the panel's title
	RefID string // the query within the panel: A, B, …
	Expr  string // with all variables substituted
}

// DashboardQueries returns the queries of the dashboards in the paths: files,
// or folders of them. Grafana's own variables get values that suit a young
// sandbox; the dashboard's get what was selected when it was saved.
func DashboardQueries(paths ...string) ([]DashboardQuery, error) {
	files, err := dashboardFiles(paths)
	if err != nil {
		return nil, err
	}
	var all []DashboardQuery
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read dashboard: %w", err)
		}
		var d dashboard
		if err := json.Unmarshal(content, &d); err != nil {
			return nil, fmt.Errorf("dashboard %s: %w", file, err)
		}
		expand := d.expander()
		for _, p := range flatten(d.Panels) {
			for _, t := range p.Targets {
				if strings.TrimSpace(t.Expr) != "" {
					all = append(all, DashboardQuery{File: file, Panel: p.Title, RefID: t.RefID, Expr: expand(t.Expr)})
				}
			}
		}
	}
	return all, nil
}

// dashboardFiles returns the JSON files among the paths and below those that
// are folders, each folder's in order.
func dashboardFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && (file == path || strings.HasSuffix(file, ".json")) {
				files = append(files, file)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look for dashboards: %w", err)
		}
	}
	return files, nil
}

// The part of a dashboard that holds queries.
type (
	dashboard struct {
		Panels     []panel `json:"panels"`
		Templating struct {
			List []templateVariable `json:"list"`
		} `json:"templating"`
	}
	panel struct {
		Title   string  `json:"title"`
		Panels  []panel `json:"panels"` // of a collapsed row
		Targets []struct {
			RefID string `json:"refId"`
			Expr  string `json:"expr"`
		} `json:"targets"`
	}
	templateVariable struct {
		Name     string `json:"name"`
		AllValue string `json:"allValue"`
		Current  struct {
			Value any `json:"value"` // a string, or a list of them
		} `json:"current"`
	}
)

// flatten returns the panels and those inside of rows.
func flatten(panels []panel) []panel {
	var all []panel
	for _, p := range panels {
		all = append(all, p)
		all = append(all, flatten(p.Panels)...)
	}
	return all
}

// grafanaVariables are Grafana's own. The range is short enough for a sandbox
// that is a few minutes old and long enough for rate at a slow job's interval.
var grafanaVariables = map[string]string{
	"__rate_interval": "1m",
	"__interval":      "15s",
	"__interval_ms":   "15000",
	"__range":         "5m",
	"__range_s":       "300",
	"__range_ms":      "300000",
}

// The three spellings of a variable: $name, ${name} or ${name:format}, [[name]].
var variable = regexp.MustCompile(`\$\{(\w+)(?::[^}]*)?\}|\$(\w+)|\[\[(\w+)(?::[^\]]*)?\]\]`)

// expander returns a function that substitutes the variables of a query.
// Unknown ones stay as they are, for the query to fail visibly.
func (d dashboard) expander() func(string) string {
	values := maps.Clone(grafanaVariables)
	for _, v := range d.Templating.List {
		values[v.Name] = v.value()
	}
	return func(expr string) string {
		return variable.ReplaceAllStringFunc(expr, func(ref string) string {
			name := strings.Join(variable.FindStringSubmatch(ref)[1:], "")
			if value, ok := values[name]; ok {
				return value
			}
			return ref
		})
	}
}

// value is the selection as PromQL would get it: a regular expression where
// several or all are selected.
func (v templateVariable) value() string {
	all := v.AllValue
	if all == "" {
		all = ".*"
	}
	switch selected := v.Current.Value.(type) {
	case string:
		if selected != "" && selected != "$__all" {
			return selected
		}
	case []any:
		var names []string
		for _, s := range selected {
			if name, ok := s.(string); ok {
				names = append(names, name)
			}
		}
		if len(names) > 0 && !slices.Contains(names, "$__all") {
			return strings.Join(names, "|")
		}
	}
	return all
}
