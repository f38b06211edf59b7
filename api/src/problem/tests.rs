#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn one_of_each_subject() -> Vec<Problem> {
    let key = ObjectKey::new("default", "web");
    let invalid = Cause::Invalid {
        text: "0 is not a port".into(),
    };
    let claimed = Cause::Reported {
        text: "another host claims it".into(),
    };
    let reported = Cause::Reported {
        text: "no route".into(),
    };
    let unreadable = Cause::Unreadable {
        what: Unreadable::Manifests,
        error: "gone".into(),
    };
    let request = Cause::Request {
        reason: Reason::UnknownPool,
        text: "there is no pool x".into(),
    };
    let api = Cause::Api {
        refusal: Refusal::Credentials,
    };
    vec![
        Problem::new(Subject::object_of(Kind::Service, key.clone()), invalid)
            .at("a.yaml:4")
            .field("spec.ports[0].port"),
        Problem::new(Subject::object_of(Kind::Service, key), request),
        Problem::new(
            Subject::Kind {
                kind: Kind::IpAddressPool,
            },
            api,
        )
        .so(Consequence::Frozen),
        Problem::new(Subject::Input, unreadable).so(Consequence::Frozen),
        Problem::new(Subject::part(Part::Proxy), reported),
        Problem::new(
            Subject::Address {
                part: Part::Speaker,
                address: "192.0.2.1".parse().unwrap(),
            },
            claimed,
        ),
        Problem::new(
            Subject::titled("Ingress default/web"),
            Cause::Duplicate {
                first: "a.yaml:1".into(),
            },
        )
        .at("b.yaml:1")
        .so(Consequence::Unused),
    ]
}

#[test]
fn a_problem_names_place_object_and_field_and_says_what_follows() {
    let texts: Vec<String> = one_of_each_subject()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "a.yaml:4: Service default/web: spec.ports[0].port: 0 is not a port",
            "Service default/web: there is no pool x",
            "IPAddressPool: the API server does not accept these credentials: renew the token or the kubeconfig; \
             everything stays as it is until that changes",
            "the manifests folder cannot be read: gone; everything stays as it is until that changes",
            "proxy: no route",
            "speaker: 192.0.2.1: another host claims it",
            "b.yaml:1: Ingress default/web: the same object is at a.yaml:1, which is used: remove one; it is not used",
        ]
    );
}

#[test]
fn json_has_the_sentences_for_people_and_the_values_for_programs() {
    let problem = &one_of_each_subject()[0];
    let value = serde_json::to_value(problem).unwrap();
    let expected = serde_json::json!({
        "origin": "a.yaml:4", "object": "Service default/web", "field": "spec.ports[0].port",
        "message": "0 is not a port",
        "subject": {"type": "Object", "kind": "Service", "namespace": "default", "name": "web"},
        "cause": {"type": "Invalid", "text": "0 is not a port"},
        "consequence": "Nothing",
    });
    assert_eq!(value, expected);
    let part = serde_json::to_value(&one_of_each_subject()[4]).unwrap();
    assert_eq!(
        (&part["origin"], &part["object"]),
        (&"proxy".into(), &"".into())
    );
}

#[test]
fn every_problem_survives_the_way_through_json() {
    for problem in one_of_each_subject() {
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }
}

#[test]
fn a_name_with_control_characters_is_quoted() {
    let invalid = || Cause::Invalid { text: "no".into() };
    for name in ["Service\u{1b}[2J", "a\0b", "\u{202e}evil"] {
        let text = Problem::new(Subject::titled(name), invalid()).to_string();
        assert!(
            text.chars().all(|c| c.is_ascii_graphic() || c == ' '),
            "{text}"
        );
    }
    assert_eq!(shown("Ingress default/web"), "Ingress default/web");
    assert!(shown(&"n".repeat(1000)).len() < 100);
}

#[test]
fn nothing_in_a_problem_acts_on_a_terminal() {
    let cause = Cause::Invalid {
        text: "unknown field `\u{1b}[2J`".into(),
    };
    let problem = Problem::new(Subject::Input, cause)
        .at("\u{202e}a.yaml")
        .field("data.\n");
    assert_eq!(
        problem.to_string(),
        "\\u{202e}a.yaml: data.\\u{a}: unknown field `\\u{1b}[2J`"
    );
}
