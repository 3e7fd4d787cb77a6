//! The points of RFC 4475 and RFC 5118, section by section, with our own messages: what the engine does with each.

use crate::common::story;
use crate::common::story::{World, addr, flow_of, header, invite, respond};
use crate::common::torture::{Case, Expected, cases};
use proxy_core::msg::Message;

const CALLER: &str = "10.77.0.20:5060";
const BOB: &str = "10.77.0.30:5060";

/// Header lines and body as they stand there, without the Vias on top and what the proxy adds or counts down.
fn untouched(bytes: &[u8], ours: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let message = Message::parse(bytes).expect("readable");
    let lines: Vec<Vec<u8>> = message
        .header_lines()
        .skip(ours)
        .filter(|l| {
            let name = String::from_utf8_lossy(l.raw_name).to_ascii_lowercase();
            !matches!(name.as_str(), "via" | "record-route" | "max-forwards" | "content-length" | "l")
        })
        .map(|l| [l.raw_name, b": ", l.value].concat())
        .collect();
    (lines, message.body().to_vec())
}

fn judge(section: &str) {
    let case = cases().into_iter().find(|c| c.section == section).expect("a case of that section");
    let mut w = World::new();
    w.register("bob", BOB);
    w.sent.clear();
    w.engine.handle_datagram(w.now, flow_of(addr(CALLER)), &case.bytes, &w.state);
    w.settle();
    let to_caller = w.take(CALLER);
    let to_bob = w.take(BOB);
    match case.expected {
        Expected::Silence => assert!(w.sent.is_empty(), "{:#?}", w.sent),
        Expected::Status(status) => {
            assert!(to_bob.is_empty(), "{to_bob:#?}");
            assert_eq!(to_caller.len(), 1, "{to_caller:#?}");
            assert!(to_caller[0].starts_with(&format!("SIP/2.0 {status} ")), "{}", to_caller[0]);
        }
        Expected::Reaches => {
            assert!(to_caller.iter().all(|m| m.starts_with("SIP/2.0 100 ")), "{to_caller:#?}");
            assert_eq!(to_bob.len(), 1, "{to_caller:#?} {to_bob:#?}");
            passes_untouched(&mut w, &case);
        }
    }
}

/// The same again, looking at bytes: text would hide what is no UTF-8.
fn passes_untouched(w: &mut World, case: &Case) {
    // The messages do not come from where their Via says, which is what a NAT looks like: without its alias.
    let nat = proxy_core::nat::NatConfig { alias: false, ..Default::default() };
    let mut fresh = World::with(proxy_core::io::EngineConfig { nat, ..story::config() });
    fresh.register("bob", BOB);
    fresh.engine.handle_datagram(fresh.now, flow_of(addr(CALLER)), &case.bytes, &fresh.state);
    let mut forwarded = None;
    while let Some(output) = fresh.engine.poll_output() {
        match output {
            proxy_core::io::Output::Transmit { flow, bytes } if flow.remote == addr(BOB) => {
                forwarded = Some(bytes)
            }
            proxy_core::io::Output::Propose { ticket, command } => {
                let response = fresh.state.apply(&command);
                fresh.engine.handle_committed(fresh.now, ticket, response, &fresh.state);
            }
            _ => {}
        }
    }
    let forwarded = forwarded.expect("forwarded");
    assert_eq!(untouched(&forwarded, 0), untouched(&case.bytes, 0));
    let vias = |bytes: &[u8]| Message::parse(bytes).expect("readable").vias().count();
    assert_eq!(vias(&forwarded), vias(&case.bytes) + 1);
    assert_eq!(w.engine.counters().dropped_malformed, 0);
}

macro_rules! sections {
    ($($name:ident $section:literal;)*) => {
        $(#[test]
        fn $name() {
            judge($section);
        })*

        #[test]
        fn every_section_with_a_message_has_a_test() {
            let mut tested = vec![$($section),*];
            let mut there: Vec<_> = cases().iter().map(|c| c.section).collect();
            tested.sort_unstable();
            there.sort_unstable();
            assert_eq!(tested, there);
        }
    };
}

sections! {
    folded_lines_odd_case_and_compact_names_are_read_and_passed_on_rfc4475_3_1_1_1 "3.1.1.1";
    the_widest_set_of_characters_passes_rfc4475_3_1_1_2 "3.1.1.2";
    escapes_in_the_user_find_the_same_user_and_stay_as_they_are_rfc4475_3_1_1_3 "3.1.1.3";
    an_escaped_null_is_registered_like_any_character_rfc4475_3_1_1_4 "3.1.1.4";
    an_escape_in_a_method_is_not_undone_rfc4475_3_1_1_5 "3.1.1.5";
    a_display_name_may_touch_the_bracket_rfc4475_3_1_1_6 "3.1.1.6";
    long_values_pass_rfc4475_3_1_1_7 "3.1.1.7";
    what_follows_the_first_message_in_a_datagram_is_ignored_rfc4475_3_1_1_8 "3.1.1.8";
    a_semicolon_before_the_at_belongs_to_the_user_rfc4475_3_1_1_9 "3.1.1.9";
    unknown_transports_in_lower_vias_are_nobodys_business_rfc4475_3_1_1_10 "3.1.1.10";
    a_binary_body_passes_byte_for_byte_rfc4475_3_1_1_11 "3.1.1.11";
    a_stray_response_with_an_odd_reason_is_dropped_rfc4475_3_1_1_12 "3.1.1.12";
    a_stray_response_without_a_reason_is_dropped_rfc4475_3_1_1_13 "3.1.1.13";
    stray_separators_in_via_and_contact_are_400_rfc4475_3_1_2_1 "3.1.2.1";
    a_content_length_beyond_the_datagram_is_400_rfc4475_3_1_2_2 "3.1.2.2";
    a_negative_content_length_is_400_rfc4475_3_1_2_3 "3.1.2.3";
    numbers_too_large_in_a_request_are_400_rfc4475_3_1_2_4 "3.1.2.4";
    numbers_too_large_in_a_response_drop_it_rfc4475_3_1_2_5 "3.1.2.5";
    an_open_quote_in_a_display_name_is_400_rfc4475_3_1_2_6 "3.1.2.6";
    a_request_uri_in_brackets_is_400_rfc4475_3_1_2_7 "3.1.2.7";
    white_space_in_the_request_uri_is_400_rfc4475_3_1_2_8 "3.1.2.8";
    doubled_white_space_in_the_start_line_is_400_rfc4475_3_1_2_9 "3.1.2.9";
    white_space_at_the_end_of_the_start_line_is_forgiven_rfc4475_3_1_2_10 "3.1.2.10";
    headers_in_the_request_uri_are_400_rfc4475_3_1_2_11 "3.1.2.11";
    a_date_in_another_zone_is_passed_on_rfc4475_3_1_2_12 "3.1.2.12";
    a_contact_whose_uri_headers_lack_brackets_is_400_rfc4475_3_1_2_13 "3.1.2.13";
    white_space_within_brackets_is_passed_on_rfc4475_3_1_2_14 "3.1.2.14";
    a_comma_in_a_display_name_without_quotes_is_400_rfc4475_3_1_2_15 "3.1.2.15";
    another_version_is_505_rfc4475_3_1_2_16 "3.1.2.16";
    a_cseq_of_another_method_is_400_rfc4475_3_1_2_17 "3.1.2.17";
    a_cseq_of_another_method_is_400_for_unknown_methods_too_rfc4475_3_1_2_18 "3.1.2.18";
    a_status_with_ten_digits_drops_the_response_rfc4475_3_1_2_19 "3.1.2.19";
    a_branch_that_is_only_the_cookie_is_taken_for_rfc2543_rfc4475_3_2_1 "3.2.1";
    missing_mandatory_headers_are_400_rfc4475_3_3_1 "3.3.1";
    an_unknown_scheme_is_416_rfc4475_3_3_2 "3.3.2";
    a_registered_but_strange_scheme_is_416_rfc4475_3_3_3 "3.3.3";
    unknown_schemes_in_to_and_contact_of_a_register_are_refused_rfc4475_3_3_4 "3.3.4";
    proxy_require_is_420_and_require_is_not_ours_rfc4475_3_3_5 "3.3.5";
    an_unknown_type_of_body_is_passed_on_rfc4475_3_3_6 "3.3.6";
    an_unknown_scheme_of_authorization_is_as_good_as_none_rfc4475_3_3_7 "3.3.7";
    single_headers_that_repeat_are_400_rfc4475_3_3_8 "3.3.8";
    two_content_lengths_are_400_rfc4475_3_3_9 "3.3.9";
    a_response_to_a_broadcast_address_is_dropped_rfc4475_3_3_10 "3.3.10";
    max_forwards_of_zero_is_483_rfc4475_3_3_11 "3.3.11";
    an_unknown_parameter_of_a_contact_is_kept_rfc4475_3_3_12 "3.3.12";
    an_unknown_parameter_of_a_contact_uri_is_kept_rfc4475_3_3_13 "3.3.13";
    escaped_headers_in_a_contact_are_accepted_in_brackets_rfc4475_3_3_14 "3.3.14";
    an_accept_without_sdp_is_passed_on_rfc4475_3_3_15 "3.3.15";
    a_request_of_rfc2543_is_passed_on_rfc4475_3_3_16 "3.3.16";
    an_ipv6_reference_is_read_everywhere_rfc5118_4_1 "v6-4.1";
    an_ipv6_address_without_brackets_is_400_rfc5118_4_2 "v6-4.2";
    a_port_within_the_brackets_is_part_of_the_address_rfc5118_4_3 "v6-4.3";
    a_port_behind_the_brackets_is_a_port_rfc5118_4_4 "v6-4.4";
    received_with_brackets_is_read_rfc5118_4_5 "v6-4.5";
    received_without_brackets_is_read_rfc5118_4_6 "v6-4.6";
    a_session_description_with_ipv6_passes_rfc5118_4_7 "v6-4.7";
    vias_of_both_families_pass_rfc5118_4_8 "v6-4.8";
    a_session_description_of_both_families_passes_rfc5118_4_9 "v6-4.9";
    mapped_addresses_are_read_rfc5118_4_10 "v6-4.10";
}

#[test]
fn an_odd_reason_and_an_empty_one_pass_to_the_caller_as_they_are_rfc4475_3_1_1_12() {
    for line in ["SIP/2.0 183 = 2**3 * 5**2 но сто девяносто", "SIP/2.0 183 "] {
        let mut w = World::new();
        w.register("bob", BOB);
        w.send(CALLER, &invite("sip:bob@lab.test", CALLER, "reason"));
        w.take(CALLER);
        let forwarded = w.expect(BOB, "INVITE ");
        let ringing = respond(&forwarded, 183, "b", "");
        let (_, rest) = ringing.split_once("\r\n").expect("lines");
        w.send(BOB, &format!("{line}\r\n{rest}"));
        let heard = w.expect(CALLER, "SIP/2.0 183");
        assert_eq!(heard.lines().next(), Some(line));
    }
}

#[test]
fn contacts_with_unknown_parameters_are_given_back_as_they_came_rfc4475_3_3_12_and_13() {
    let mut w = World::new();
    for (n, section) in ["3.3.12", "3.3.13"].iter().enumerate() {
        let case = cases().into_iter().find(|c| c.section == *section).expect("case");
        w.send(CALLER, &String::from_utf8(case.bytes).expect("text"));
        let ok = w.expect(CALLER, "SIP/2.0 200 ");
        let contacts = header(&ok, "Contact").expect("contacts");
        let uri_with_parameter = contacts.contains("sip:+19725552222@192.0.2.9;unknownparam>");
        assert_eq!(uri_with_parameter, n == 1, "{contacts}");
    }
}
