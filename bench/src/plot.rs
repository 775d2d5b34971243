//! Draws line charts as inline SVG: numbers in, text out. Colours come from the page's style sheet by class.

use std::fmt::Write;

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend and the tooltips say.
    pub name: &'static str,
    /// Class of the style sheet: `a`, `b` or `c`.
    pub class: &'static str,
    /// Pairs of x and y; x rises.
    pub points: Vec<(f64, f64)>,
    /// The space below the line is tinted.
    pub filled: bool,
}

/// How y runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// In decades; values of 0 are gaps.
    Logarithmic,
}

/// A chart with shared axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The heading above the chart.
    pub title: &'static str,
    /// One line below it.
    pub note: String,
    /// All lines.
    pub series: Vec<Series>,
    /// How y runs.
    pub scale: Scale,
    /// Text of a y value.
    pub y_text: fn(f64) -> String,
    /// Text of an x value.
    pub x_text: fn(f64) -> String,
    /// Where x has labels; empty: at round numbers.
    pub x_ticks: Vec<f64>,
    /// A vertical line, with what it says.
    pub mark: Option<(f64, &'static str)>,
}

impl Chart {
    /// The chart as a `<figure>`.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        let _ = write!(
            out,
            "<figure><figcaption><b>{}</b><span>{}</span>",
            self.title,
            escape(&self.note)
        );
        if self.series.len() > 1 {
            out.push_str("<em>");
            for series in &self.series {
                let _ = write!(out, "<i class=\"{}\"></i>{} ", series.class, series.name);
            }
            out.push_str("</em>");
        }
        out.push_str("</figcaption>");
        match Axes::of(self) {
            Some(axes) => self.render_svg(&mut out, &axes),
            None => out.push_str("<p class=\"none\">nothing was measured here</p>"),
        }
        out.push_str("</figure>");
        out
    }

    fn render_svg(&self, out: &mut String, axes: &Axes) {
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            self.title
        );
        for tick in &axes.y_ticks {
            let y = axes.y(*tick);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(&(self.y_text)(*tick))
            );
        }
        for tick in &axes.x_ticks {
            let x = axes.x(*tick);
            let text = escape(&(self.x_text)(*tick));
            let _ = write!(
                out,
                "<text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>",
                BOTTOM + 18.0
            );
        }
        if let Some((at, text)) = self.mark
            && at > axes.x_min
            && at < axes.x_max
        {
            let x = axes.x(at);
            let _ = write!(
                out,
                "<path class=\"mark\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/><text class=\"m\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                x + 4.0,
                TOP + 10.0
            );
        }
        for series in &self.series {
            self.render_line(out, axes, series);
        }
        self.render_tooltips(out, axes);
        out.push_str("</svg>");
    }

    fn render_line(&self, out: &mut String, axes: &Axes, series: &Series) {
        let mut line = String::new();
        let mut area = String::new();
        let mut begun: Option<f64> = None;
        let mut last_x = 0.0;
        for (x, y) in thin_out(&series.points) {
            if self.scale == Scale::Logarithmic && y <= 0.0 {
                if let Some(first) = begun.take() {
                    let _ = write!(area, "L{last_x:.1} {BOTTOM}L{first:.1} {BOTTOM}Z");
                }
                continue;
            }
            let (x, y) = (axes.x(x), axes.y(y));
            let command = if begun.is_some() { 'L' } else { 'M' };
            begun.get_or_insert(x);
            let _ = write!(line, "{command}{x:.1} {y:.1}");
            let _ = write!(area, "{command}{x:.1} {y:.1}");
            last_x = x;
        }
        if let Some(first) = begun {
            let _ = write!(area, "L{last_x:.1} {BOTTOM}L{first:.1} {BOTTOM}Z");
        }
        if series.filled {
            let _ = write!(out, "<path class=\"area {}\" d=\"{area}\"/>", series.class);
        }
        let _ = write!(out, "<path class=\"line {}\" d=\"{line}\"/>", series.class);
    }

    /// One invisible column per x whose title names all values there.
    fn render_tooltips(&self, out: &mut String, axes: &Axes) {
        let Some(first) = self.series.first() else { return };
        let points = thin_out(&first.points);
        let width = (RIGHT - LEFT) / points.len().max(1) as f64;
        for (x, _) in points {
            let mut title = (self.x_text)(x);
            for series in &self.series {
                if let Some((_, y)) = series.points.iter().find(|(other, _)| *other >= x) {
                    let _ = write!(title, "\n{} {}", series.name, (self.y_text)(*y));
                }
            }
            let _ = write!(
                out,
                "<rect class=\"tip\" x=\"{:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{}\"><title>{}</title></rect>",
                axes.x(x) - width / 2.0,
                BOTTOM - TOP,
                escape(&title)
            );
        }
    }
}

/// Makes text safe inside an element and inside a quoted attribute.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters have no place in HTML; a fault's text may quote them from the wire.
            character if character.is_control() && character != '\n' => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}

struct Axes {
    scale: Scale,
    x_min: f64,
    x_max: f64,
    y_min: f64,
    y_max: f64,
    x_ticks: Vec<f64>,
    y_ticks: Vec<f64>,
}

impl Axes {
    /// `None` when there is nothing to draw.
    fn of(chart: &Chart) -> Option<Self> {
        let points = || chart.series.iter().flat_map(|series| &series.points);
        let (x_min, x_max) = range(points().map(|point| point.0))?;
        let visible = |y: &f64| chart.scale == Scale::Linear || *y > 0.0;
        let (low, high) = range(points().map(|point| point.1).filter(visible))?;
        if x_max <= x_min || high <= 0.0 {
            return None;
        }
        let x_ticks = if chart.x_ticks.is_empty() {
            ticks(x_min, x_max, 7)
        } else {
            chart.x_ticks.clone()
        };
        let (y_min, y_max, y_ticks) = match chart.scale {
            Scale::Linear => {
                let top = high * 1.06;
                (0.0, top, ticks(0.0, top, 5))
            }
            Scale::Logarithmic => {
                let (bottom, top) = ((low * 0.6).log10(), (high * 1.3).log10());
                let steps: &[f64] = if top - bottom < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let decades = bottom.floor() as i32..=top.ceil() as i32;
                let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
                (
                    bottom,
                    top,
                    ticks.filter(|tick| (bottom..=top).contains(&tick.log10())).collect(),
                )
            }
        };
        let x_ticks = x_ticks
            .into_iter()
            .filter(|tick| *tick >= x_min && *tick <= x_max)
            .collect();
        Some(Self {
            scale: chart.scale,
            x_min,
            x_max,
            y_min,
            y_max,
            x_ticks,
            y_ticks,
        })
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x_min) / (self.x_max - self.x_min) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Logarithmic {
            value.log10()
        } else {
            value
        };
        BOTTOM - (value - self.y_min) / (self.y_max - self.y_min) * (BOTTOM - TOP)
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Round numbers from `low` to `high`, about `count` of them.
fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let raw = (high - low) / count as f64;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|unit| unit * power)
        .find(|step| *step >= raw);
    let step = step.unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..)
        .map(|index| index as f64 * step)
        .take_while(|tick| *tick <= high)
        .take(4 * count)
        .collect()
}

/// At most [`POINTS_MAX`] points, the highest of each group: a spike is never thinned away.
fn thin_out(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(POINTS_MAX).max(1);
    points
        .chunks(group)
        .filter_map(|chunk| chunk.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1)))
        .collect()
}

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 608.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 228.0;
const POINTS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "t",
            note: String::new(),
            series: vec![Series {
                name: "s",
                class: "a",
                points,
                filled: true,
            }],
            scale,
            y_text: |y| format!("{y}"),
            x_text: |x| format!("{x}"),
            x_ticks: Vec::new(),
            mark: None,
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 100.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(0.0, 12_700.0, 5), [0.0, 5_000.0, 10_000.0]);
    }

    #[test]
    fn a_chart_of_nothing_says_so() {
        let empty = [Vec::new(), vec![(0.0, 0.0)], vec![(0.0, 0.0), (1.0, 0.0)]];
        for points in empty {
            assert!(
                chart(Scale::Linear, points.clone())
                    .render()
                    .contains("nothing was measured")
            );
            assert!(
                chart(Scale::Logarithmic, points)
                    .render()
                    .contains("nothing was measured")
            );
        }
    }

    #[test]
    fn no_coordinate_is_infinite() {
        let points = vec![(0.0, 0.0), (1.0, 5.0), (2.0, 0.0), (3.0, 5_000.0)];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let text = chart(scale, points.clone()).render();
            assert!(
                text.contains("<svg") && !text.contains("NaN") && !text.contains("inf"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_spike_survives_thinning() {
        let mut points: Vec<(f64, f64)> = (0..5_000).map(|x| (f64::from(x), 1.0)).collect();
        points[1_234].1 = 9.0;
        let thin = thin_out(&points);
        assert!(thin.len() <= POINTS_MAX && thin.contains(&(1_234.0, 9.0)));
    }

    #[test]
    fn what_came_from_the_wire_cannot_become_markup() {
        assert_eq!(escape("<b>&\"'\u{1b}"), "&lt;b&gt;&amp;&quot;&#39;\u{fffd}");
    }
}
