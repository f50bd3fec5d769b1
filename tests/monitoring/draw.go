package main

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Sizes in pixels: Grafana's grid has 24 columns.
const (
	column, row   = 50, 30
	gap, head     = 6, 52
	margin, below = 14, 78
)

var (
	palette = []string{"blue", "orange", "green", "magenta", "red", "teal", "brown", "indigo"}
	// Each on a light page, and on a dark one.
	colours = map[string][2]string{
		"page": {"#eef0f2", "#111217"}, "panel": {"#fff", "#1c1f25"}, "grid": {"#e6e8eb", "#30343c"},
		"title": {"#222", "#fff"}, "words": {"#444", "#ccccdc"}, "none": {"#777", "#9a9ca8"},
		"green": {"#2e8b3d", "#6ccf70"}, "blue": {"#2f7ed8", "#5b9dff"}, "orange": {"#d9822b", "#ff9f40"},
		"red": {"#c23b33", "#ff6b6b"}, "purple": {"#8e5bb5", "#bd8be0"}, "grey": {"#8a8f98", "#a3a9b5"},
		"magenta": {"#b84fc0", "#dd86e4"}, "teal": {"#12908e", "#4ec5c2"}, "brown": {"#8a6d3b", "#c9a56a"},
		"indigo": {"#5c6bc0", "#94a1f0"},
	}
	legends = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

type area struct{ x, y, w, h float64 }

type line struct {
	name   string
	colour string
	points []point
}

// Draws every panel as it looks at the end of the scrapes.
func draw(dashboardFile, scrapes string) error {
	d, err := readDashboard(dashboardFile)
	if err != nil {
		return err
	}
	s, err := load(scrapes)
	if err != nil {
		return err
	}
	defer s.close()
	height := 0.0
	var panels strings.Builder
	for _, p := range d.Panels {
		place := area{p.GridPos.X*column + gap, head + p.GridPos.Y*row + gap, p.GridPos.W*column - gap, p.GridPos.H*row - gap}
		height = math.Max(height, place.y+place.h+gap)
		if err := drawPanel(&panels, s, p, place); err != nil {
			return fmt.Errorf("%s: %w", p.Title, err)
		}
	}
	width := 24*column + gap
	out := os.Stdout
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f" font-family="system-ui, sans-serif" font-size="12" class="words">`+"\n", width, height, width, height)
	fmt.Fprintln(out, styles())
	fmt.Fprintln(out, `<rect width="100%" height="100%" class="page"/>`)
	text(out, gap*2, 32, `font-size="20" font-weight="600" class="title"`, d.Title)
	span := fmt.Sprintf("%s of a running operator, scraped once a second", s.end.Sub(s.start).Round(time.Second))
	text(out, float64(width)-gap*2, 32, `text-anchor="end"`, span)
	fmt.Fprint(out, panels.String())
	fmt.Fprintln(out, "</svg>")
	return nil
}

func drawPanel(out *strings.Builder, s *store, p panel, at area) error {
	fmt.Fprintf(out, `<rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" rx="3" class="panel"/>`+"\n", at.x, at.y, at.w, at.h)
	text(out, at.x+margin, at.y+20, `font-weight="600" class="title"`, p.Title)
	var lines []line
	for _, target := range p.Targets {
		found, err := s.query(context.Background(), target.Expr, shortRate)
		if err != nil {
			return err
		}
		for _, one := range found {
			name := legends.ReplaceAllStringFunc(target.Legend, func(part string) string {
				return one.labels.Get(part[2 : len(part)-2])
			})
			lines = append(lines, line{name, seriesColour(p, name, palette[len(lines)%len(palette)]), one.points})
		}
	}
	if len(lines) == 0 {
		// As Grafana does: nothing may be not ready.
		text(out, at.x+at.w/2, at.y+at.h/2+6, `text-anchor="middle" class="none"`, "No data")
		return nil
	}
	if p.Type == "stat" {
		last := lines[0].points[len(lines[0].points)-1].value
		style := fmt.Sprintf(`font-size="34" font-weight="600" text-anchor="middle" class="%s"`, colour(p, last))
		text(out, at.x+at.w/2, at.y+at.h/2+24, style, words(last, p.FieldConfig.Defaults.Unit))
		return nil
	}
	if p.Type == "table" {
		drawTable(out, s, p, lines, at)
		return nil
	}
	drawLines(out, s, p, lines, at)
	return nil
}

// Draws the rows that there are at the end, the greatest value first.
func drawTable(out *strings.Builder, s *store, p panel, lines []line, at area) {
	last := func(one line) point { return one.points[len(one.points)-1] }
	lines = slices.DeleteFunc(lines, func(one line) bool { return s.end.Sub(last(one).at) > time.Second })
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(last(b).value, last(a).value) })
	down := at.y + 48
	for _, one := range lines {
		for i, cell := range append(strings.Split(one.name, "  "), words(last(one).value, p.FieldConfig.Defaults.Unit)) {
			text(out, at.x+margin+float64(i)*(at.w-2*margin)/4, down, `font-size="12"`, cell)
		}
		down += 20
	}
}

func drawLines(out *strings.Builder, s *store, p panel, lines []line, at area) {
	stacked := p.FieldConfig.Defaults.Custom.Stacking.Mode == "normal"
	plot := area{at.x + margin + 44, at.y + 34, at.w - 2*margin - 48, at.h - 34 - below}
	floors := map[time.Time]float64{}
	tops := make([]map[time.Time]float64, len(lines))
	most := 0.0
	for i, one := range lines {
		tops[i] = map[time.Time]float64{}
		for _, point := range one.points {
			floor := 0.0
			if stacked {
				floor = floors[point.at]
				floors[point.at] += point.value
			}
			tops[i][point.at] = floor + point.value
			most = math.Max(most, floor+point.value)
		}
	}
	rise := niceStep(most / 4)
	most = math.Max(rise, math.Ceil(most/rise-1e-9)*rise)
	x := func(t time.Time) float64 {
		return plot.x + plot.w*float64(t.Sub(s.start))/float64(s.end.Sub(s.start))
	}
	y := func(v float64) float64 { return plot.y + plot.h*(1-v/most) }
	for v := 0.0; v <= most*1.001; v += rise {
		fmt.Fprintf(out, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="grid"/>`+"\n", plot.x, y(v), plot.x+plot.w, y(v))
		text(out, plot.x-6, y(v)+4, `text-anchor="end" font-size="11"`, words(v, p.FieldConfig.Defaults.Unit))
	}
	length := s.end.Sub(s.start)
	for i := range 5 {
		t := length * time.Duration(i) / 4
		text(out, plot.x+plot.w*float64(i)/4, plot.y+plot.h+16, `text-anchor="middle" font-size="11"`, t.Round(time.Second).String())
	}
	// The highest layer first, so that each covers what it stands on.
	for i := len(lines) - 1; i >= 0; i-- {
		drawLine(out, lines[i], tops[i], stacked, x, y)
	}
	left, down := plot.x-30, at.y+at.h-44.0
	for _, one := range lines {
		width := 24 + 6.4*float64(len(one.name))
		if left+width > at.x+at.w-margin {
			left, down = plot.x-30, down+15
		}
		fmt.Fprintf(out, `<rect x="%.1f" y="%.1f" width="12" height="4" class="%s"/>`+"\n", left, down-6, one.colour)
		text(out, left+16, down, `font-size="11"`, one.name)
		left += width
	}
}

// Draws the runs of neighbouring points; where a series was away there is a gap.
func drawLine(out *strings.Builder, one line, top map[time.Time]float64, filled bool, x func(time.Time) float64, y func(float64) float64) {
	for start := 0; start < len(one.points); {
		end := start + 1
		for end < len(one.points) && one.points[end].at.Sub(one.points[end-1].at) <= time.Second {
			end++
		}
		var path []string
		for i := start; i < end; i++ {
			at := one.points[i].at
			// What does not change needs no points in between.
			if i > start && i < end-1 && top[one.points[i-1].at] == top[at] && top[one.points[i+1].at] == top[at] {
				continue
			}
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(at), y(top[at])))
		}
		points := strings.Join(path, " ")
		if filled {
			first, last := x(one.points[start].at), x(one.points[end-1].at)
			fmt.Fprintf(out, `<polygon points="%.1f,%.1f %s %.1f,%.1f" class="%s" fill-opacity="0.85"/>`+"\n", first, y(0), points, last, y(0), one.colour)
		} else {
			fmt.Fprintf(out, `<polyline points="%s" class="%s" stroke-width="1.8"/>`+"\n", points, one.colour)
		}
		start = end
	}
}

// 1, 2 or 5 times a power of ten.
func niceStep(least float64) float64 {
	if least <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= least*0.999 {
			return factor * power
		}
	}
	return 10 * power
}

// The colour that a panel gives a series by its name, or else this one.
func seriesColour(p panel, name, otherwise string) string {
	for _, override := range p.FieldConfig.Overrides {
		if override.Matcher.Options == name && len(override.Properties) > 0 {
			return class(override.Properties[0].Value.Color)
		}
	}
	return otherwise
}

// The class of a colour of the dashboard, which gives its grey as a number.
func class(colour string) string {
	if colour == "#8a8f98" {
		return "grey"
	}
	return colour
}

// A class for each colour, whatever is drawn in it.
func styles() string {
	var light, dark strings.Builder
	for _, name := range slices.Sorted(maps.Keys(colours)) {
		fmt.Fprintf(&light, ".%s{color:%s}", name, colours[name][0])
		fmt.Fprintf(&dark, ".%s{color:%s}", name, colours[name][1])
	}
	return fmt.Sprintf("<style>text,rect,polygon{fill:currentColor}line,polyline{fill:none;stroke:currentColor}\n%s\n@media(prefers-color-scheme:dark){%s}</style>", &light, &dark)
}

func colour(p panel, value float64) string {
	found := "words"
	for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
		if step.Value == nil || value >= *step.Value {
			found = class(step.Color)
		}
	}
	return found
}

// A value as its unit is written.
func words(v float64, unit string) string {
	number := func(v float64) string { return fmt.Sprintf("%.3g", v) }
	switch {
	case unit == "percentunit":
		return number(100*v) + " %"
	case unit == "s" && v >= 3600:
		return number(v/3600) + " h"
	case unit == "s" && v < 1:
		return number(1000*v) + " ms"
	case unit == "s":
		return number(v) + " s"
	case unit == "ops" || unit == "reqps":
		return number(v) + "/s"
	}
	return number(v)
}

func text(out interface{ Write([]byte) (int, error) }, x, y float64, style, content string) {
	fmt.Fprintf(out, `<text x="%.1f" y="%.1f" %s>%s</text>`+"\n", x, y, style, html.EscapeString(content))
}
