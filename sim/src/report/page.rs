//! One HTML file without any other: lanes per fault, node, bucket, writer and reader over virtual time, the violation as a red line.

use super::{Append, Span, Timeline, story};
use crate::history::Outcome;
use crate::oracle::Violation;
use crate::plan::Plan;
use std::collections::BTreeMap;
use std::fmt::Write;

const LANE: usize = 22;
const LABEL: usize = 150;
const WIDTH: usize = 1200;
/// Colours of nodes, so that the leader of a bucket is seen at a glance.
const NODE_COLOURS: [&str; 6] = ["#777777", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377"];

/// Scales with the browser's window; `command` replays the run.
pub fn page(plan: &Plan, timeline: &Timeline, violation: Option<&Violation>, command: &str) -> String {
    let mut chart = Chart::new(timeline);
    chart.faults();
    chart.nodes();
    chart.leaders();
    chart.watermarks();
    chart.writers();
    chart.readers();
    let svg = chart.finish(violation);
    let verdict = violation.map_or_else(
        || "<p class=ok>nothing was violated</p>".to_owned(),
        |violation| {
            format!("<p class=red>{} at {:.3} s: {}</p>", violation.oracle, violation.at_ns as f64 / 1e9, escape(&violation.what))
        },
    );
    let plan_json = serde_json::to_string_pretty(plan).expect("plans are plain data");
    let last: String = timeline.last.iter().fold(String::new(), |mut text, (at_ns, line)| {
        writeln!(text, "{:10.4}  {}", *at_ns as f64 / 1e9, escape(line)).expect("a string takes everything");
        text
    });
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>seed {seed}</title><style>{STYLE}</style>\
         <h1>seed {seed}</h1>{verdict}<p>again: <code>{command}</code></p>\
         <p>wheel: zoom in time, drag: move, double click: everything; hover a bar for what it is</p>{svg}\
         <h2>Story</h2><pre>{story}</pre><h2>Last events</h2><pre>{last}</pre><h2>Plan</h2><pre>{plan}</pre><script>{SCRIPT}</script></html>",
        seed = plan.seed,
        command = escape(command),
        story = escape(&story(plan, timeline, violation)),
        plan = escape(&plan_json),
    )
}

struct Chart<'a> {
    timeline: &'a Timeline,
    labels: String,
    bars: String,
    row: usize,
}

impl<'a> Chart<'a> {
    fn new(timeline: &'a Timeline) -> Self {
        Self { timeline, labels: String::new(), bars: String::new(), row: 0 }
    }

    fn x(&self, ns: u64) -> f64 {
        ns as f64 / self.timeline.end_ns.max(1) as f64 * WIDTH as f64
    }

    fn lane(&mut self, label: &str) -> usize {
        let y = self.row * LANE;
        writeln!(
            self.labels,
            "<text x=4 y={}>{}</text><line x1=0 x2={} y1={y} y2={y} class=rule />",
            y + 15,
            escape(label),
            LABEL + WIDTH
        )
        .expect("a string takes everything");
        self.row += 1;
        y
    }

    fn bar(&mut self, y: usize, from_ns: u64, to_ns: u64, colour: &str, title: &str) {
        let (x, end) = (self.x(from_ns), self.x(to_ns));
        let width = (end - x).max(0.5);
        writeln!(
            self.bars,
            "<rect x={x:.2} y={} width={width:.2} height={} fill=\"{colour}\"><title>{} [{:.3} s, {:.3} s)</title></rect>",
            y + 3,
            LANE - 6,
            escape(title),
            from_ns as f64 / 1e9,
            to_ns as f64 / 1e9
        )
        .expect("a string takes everything");
    }

    fn spans(&mut self, y: usize, spans: &[Span], colour: &str, prefix: &str) {
        for span in spans {
            self.bar(y, span.from_ns, self.timeline.end_of(span), colour, &format!("{prefix}{}", span.what));
        }
    }

    /// As few lanes as hold them without overlap.
    fn faults(&mut self) {
        let mut lanes: Vec<(usize, u64)> = Vec::new();
        for (action, span) in &self.timeline.faults {
            let end = self.timeline.end_of(span);
            let free = lanes.iter().position(|(_, until)| *until <= span.from_ns);
            let index = free.unwrap_or_else(|| {
                let y = self.lane("faults");
                lanes.push((y, 0));
                lanes.len() - 1
            });
            lanes[index].1 = end;
            self.bar(lanes[index].0, span.from_ns, end, "#cc6600", &format!("fault {action}: {}", span.what));
        }
    }

    fn nodes(&mut self) {
        for (node, spans) in &self.timeline.up {
            let y = self.lane(&format!("node {node} up"));
            self.spans(y, spans, node_colour(*node), &format!("n{node} "));
        }
    }

    fn leaders(&mut self) {
        let mut lanes = BTreeMap::new();
        for ((bucket, node), spans) in &self.timeline.led {
            let y = match lanes.get(bucket) {
                Some(y) => *y,
                None => {
                    let label = bucket.map_or_else(|| "leader of catalog".to_owned(), |bucket| format!("leader of b{bucket}"));
                    let y = self.lane(&label);
                    lanes.insert(*bucket, y);
                    y
                }
            };
            self.spans(y, spans, node_colour(*node), &format!("n{node} leads, "));
        }
    }

    /// A step line per node.
    fn watermarks(&mut self) {
        for bucket in 0..self.timeline.buckets {
            let marks = self.timeline.watermarks.range((bucket, 0)..=(bucket, u64::MAX));
            let top = marks.clone().flat_map(|(_, marks)| marks.iter().map(|(_, mark)| *mark)).max().unwrap_or(0).max(1);
            let y = self.lane(&format!("b{bucket} watermark to {top}"));
            for ((_, node), marks) in marks {
                let mut path = String::new();
                let height = |mark: i64| (y + LANE - 3) as f64 - mark as f64 / top as f64 * (LANE - 6) as f64;
                for (index, (at_ns, mark)) in marks.iter().enumerate() {
                    let (x, h) = (self.x(*at_ns), height(*mark));
                    let step = if index == 0 { format!("M{x:.2} {h:.1}") } else { format!("H{x:.2}V{h:.1}") };
                    path.push_str(&step);
                }
                writeln!(
                    self.bars,
                    "<path d=\"{path}\" fill=none stroke=\"{}\" vector-effect=non-scaling-stroke><title>n{node}</title></path>",
                    node_colour(*node)
                )
                .expect("a string takes everything");
            }
        }
    }

    fn writers(&mut self) {
        let mut lanes: BTreeMap<(u32, u32), Vec<&Append>> = BTreeMap::new();
        for append in &self.timeline.appends {
            lanes.entry((append.writer, append.bucket)).or_default().push(append);
        }
        for ((writer, bucket), appends) in lanes {
            let y = self.lane(&format!("w{writer} on b{bucket}"));
            for append in appends {
                let to_ns = if append.to_ns == 0 { self.timeline.end_ns } else { append.to_ns };
                let outcome = append.outcome.as_ref().map_or_else(|| "no answer".to_owned(), ToString::to_string);
                let title = format!("#{} to n{}: {outcome}", append.sequence, append.node);
                self.bar(y, append.from_ns, to_ns, outcome_colour(append.outcome.as_ref()), &title);
            }
        }
    }

    fn readers(&mut self) {
        let mut lanes: BTreeMap<(u32, u32), Vec<(u64, i64)>> = BTreeMap::new();
        for (reader, bucket, at_ns, offset) in &self.timeline.fetches {
            lanes.entry((*reader, *bucket)).or_default().push((*at_ns, *offset));
        }
        for ((reader, bucket), fetches) in lanes {
            let y = self.lane(&format!("r{reader} on b{bucket}"));
            for (at_ns, offset) in fetches {
                self.bar(y, at_ns, at_ns, "#446688", &format!("read up to offset {offset}"));
            }
        }
    }

    fn finish(mut self, violation: Option<&Violation>) -> String {
        let height = self.row * LANE + 24;
        if let Some(violation) = violation.filter(|violation| violation.at_ns > 0) {
            self.line(violation.at_ns, height, "violated");
        }
        for rest in &self.timeline.rests {
            self.line(rest.from_ns, height, "rest");
        }
        if let Some(at_ns) = self.timeline.healed_ns {
            self.line(at_ns, height, "healed");
        }
        let total = LABEL + WIDTH;
        let mut axis = String::new();
        let seconds = self.timeline.end_ns / 1_000_000_000;
        let step = (seconds / 20).max(1);
        for second in (0..=seconds).step_by(step as usize) {
            let x = self.x(second * 1_000_000_000);
            writeln!(axis, "<text class=tick x={x:.1} y={}>{second} s</text>", height - 8).expect("a string takes everything");
        }
        format!(
            "<svg id=chart viewBox=\"0 0 {total} {height}\"><g>{}</g><svg id=time x={LABEL} y=0 width={WIDTH} height={height} \
             viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=none>{}{axis}</svg></svg>",
            self.labels, self.bars
        )
    }

    fn line(&mut self, at_ns: u64, height: usize, class: &str) {
        let x = self.x(at_ns);
        writeln!(self.bars, "<line class={class} x1={x:.2} x2={x:.2} y1=0 y2={height} vector-effect=non-scaling-stroke><title>{class}</title></line>")
            .expect("a string takes everything");
    }
}

fn node_colour(node: u64) -> &'static str {
    NODE_COLOURS[node as usize % NODE_COLOURS.len()]
}

fn outcome_colour(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Acked { .. } | Outcome::Put { .. }) => "#66aa66",
        Some(Outcome::Unknown { .. }) => "#ddaa33",
        Some(Outcome::OutOfOrder { .. }) => "#9966cc",
        Some(Outcome::Refused { .. }) => "#cc3333",
        None => "#bbbbbb",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:14px sans-serif;margin:1em 2em}svg#chart{width:100%;border:1px solid #ccc;background:#fcfcfc}text{font:12px sans-serif}\
.rule{stroke:#eee}.violated{stroke:#e00;stroke-width:2}.healed{stroke:#0a0;stroke-dasharray:4}.tick{fill:#888}.red{color:#c00;font-weight:bold}.ok{color:#080}\
pre{background:#f6f6f6;padding:1em;overflow:auto;max-height:40em}";

const SCRIPT: &str = "const t=document.getElementById('time'),W=t.viewBox.baseVal.width,H=t.viewBox.baseVal.height;let a=0,b=W,d=null;\
const put=()=>t.setAttribute('viewBox',a+' 0 '+(b-a)+' '+H);const at=e=>{const r=t.getBoundingClientRect();return(e.clientX-r.left)/r.width};\
t.addEventListener('wheel',e=>{e.preventDefault();const f=e.deltaY>0?1.25:0.8,c=a+at(e)*(b-a);a=Math.max(0,c-(c-a)*f);b=Math.min(W,c+(b-c)*f);put()},{passive:false});\
t.addEventListener('mousedown',e=>d=at(e));window.addEventListener('mouseup',()=>d=null);\
t.addEventListener('mousemove',e=>{if(d===null)return;const s=(d-at(e))*(b-a);d=at(e);if(a+s>=0&&b+s<=W){a+=s;b+=s;put()}});\
t.addEventListener('dblclick',()=>{a=0;b=W;put()});";
