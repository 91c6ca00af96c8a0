//! A page in the headless Chromium: what a person sees of it and does on it.

use serde_json::{Value, json};

use crate::browser::{Browser, text};

/// The name of an element's identifier in the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    /// A fresh browser for looking at pages.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn for_pages() -> Self {
        Self::start(&["--disable-gpu"])
    }

    /// Width and height of the page's viewport, in CSS pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    pub fn prefer_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
    }

    pub fn title(&self) -> String {
        text(&self.request(
            "GET",
            &format!("/session/{}/title", self.session),
            Value::Null,
        ))
    }

    /// Text of the element as a person sees it.
    pub fn text(&self, selector: &str) -> String {
        let element = self.element(selector);
        let path = format!("/session/{}/element/{element}/text", self.session);
        text(&self.request("GET", &path, Value::Null))
    }

    /// A click with the mouse in the middle of the element.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), json!({}));
    }

    /// A click at a share of the element's width and height.
    pub fn click_at(&self, selector: &str, across: f64, down: f64) {
        let script = format!(
            "const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}});
             const b = e.getBoundingClientRect();
             return [b.left + {across} * b.width, b.top + {down} * b.height];"
        );
        let spot = self.run(&script);
        let [x, y] = [0, 1].map(|i| spot[i].as_f64().expect("a coordinate").round());
        let actions = json!([
            {"type": "pointerMove", "duration": 0, "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]);
        let source = json!({"type": "pointer", "id": "mouse", "actions": actions});
        self.post("/actions", json!({ "actions": [source] }));
    }

    /// Presses and releases keys, given by their WebDriver code points.
    pub fn press(&self, keys: &[char]) {
        let strokes: Vec<Value> = keys
            .iter()
            .flat_map(|key| {
                [
                    json!({"type": "keyDown", "value": key}),
                    json!({"type": "keyUp", "value": key}),
                ]
            })
            .collect();
        let source = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.post("/actions", json!({ "actions": [source] }));
    }

    /// What the console received since the last call.
    pub fn console(&self) -> Vec<String> {
        self.log("browser")
    }

    fn element(&self, selector: &str) -> String {
        let query = json!({"using": "css selector", "value": selector});
        text(&self.post("/element", query)[ELEMENT])
    }

    fn devtools(&self, command: &str, parameters: Value) {
        self.post(
            "/goog/cdp/execute",
            json!({"cmd": command, "params": parameters}),
        );
    }
}
