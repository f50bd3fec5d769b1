package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

// As much of a Grafana dashboard as is looked at here.
type dashboard struct {
	Title       string `json:"title"`
	Annotations struct {
		List []struct {
			Name string `json:"name"`
			Expr string `json:"expr"`
		} `json:"list"`
	} `json:"annotations"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type panel struct {
	Title   string `json:"title"`
	Type    string `json:"type"`
	GridPos struct{ X, Y, W, H float64 }
	Targets []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit       string `json:"unit"`
			Thresholds struct {
				Steps []struct {
					Color string   `json:"color"`
					Value *float64 `json:"value"`
				} `json:"steps"`
			} `json:"thresholds"`
			Custom struct {
				Stacking struct {
					Mode string `json:"mode"`
				} `json:"stacking"`
			} `json:"custom"`
		} `json:"defaults"`
		Overrides []struct {
			Matcher struct {
				Options string `json:"options"`
			} `json:"matcher"`
			Properties []struct {
				Value struct {
					Color string `json:"fixedColor"`
				} `json:"value"`
			} `json:"properties"`
		} `json:"overrides"`
	} `json:"fieldConfig"`
}

var labelValues = regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)

func readDashboard(file string) (*dashboard, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &d, nil
}

func (d *dashboard) queries() []finding {
	var all []finding
	for _, variable := range d.Templating.List {
		if variable.Type != "query" {
			continue
		}
		expr := variable.Definition
		if parts := labelValues.FindStringSubmatch(expr); parts != nil {
			expr = fmt.Sprintf("group by (%s) (%s{%s!=\"\"})", parts[2], parts[1], parts[2])
		}
		all = append(all, finding{Of: variable.Name, Kind: "variable", Expr: expr})
	}
	for _, annotation := range d.Annotations.List {
		all = append(all, finding{Of: annotation.Name, Kind: "annotation", Expr: annotation.Expr})
	}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			all = append(all, finding{Of: panel.Title, Kind: "panel", Expr: target.Expr})
		}
	}
	return all
}

func readAlerts(file string) ([]finding, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, queries, slog.Default())
	if len(errs) > 0 {
		return nil, fmt.Errorf("%s: %w", file, errs[0])
	}
	var all []finding
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			all = append(all, finding{Of: rule.Alert, Kind: "alert", Expr: strings.TrimSpace(rule.Expr)})
		}
	}
	return all, nil
}
