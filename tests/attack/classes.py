"""The abuses by class."""

from __future__ import annotations

from tests.attack import accounts, facts, machine, messages, models, openapi, origin, secrets, text, topology, waits
from tests.attack.run import Classes

CLASSES: Classes = {
    "messages": (
        messages.hostile_messages_to_every_exchange,
        messages.lease_requests_with_a_long_worker_id,
        messages.a_lease_request_with_ten_thousand_claims,
        messages.raw_bytes_to_every_exchange,
        messages.replies_to_the_queues_of_the_stack,
    ),
    "facts": (
        facts.a_forged_model_of_a_running_training,
        facts.a_forged_fence_and_a_forged_cancel,
        facts.a_forged_checkpoint,
        facts.forged_progress_from_the_future,
        facts.a_thousand_forged_events_of_a_finished_task,
    ),
    "accounts": (
        accounts.a_client_that_publishes_and_reads_everywhere,
        accounts.workers_that_forge_the_facts_of_other_phases,
        accounts.accounts_that_change_the_topology,
        accounts.accounts_that_speak_in_the_name_of_others,
    ),
    "waits": (
        waits.uploads_that_stall,
        waits.requests_that_send_one_header_a_second,
        waits.twenty_five_thousand_unknown_form_fields,
        waits.an_object_store_that_hangs,
        waits.a_database_that_hangs,
    ),
    "text": (
        text.hostile_names_in_a_listing,
        text.hostile_names_and_reasons_of_one_task,
        text.hostile_dead_letters,
    ),
    "origin": (
        origin.uploads_from_another_origin,
        origin.requests_without_a_body_from_another_origin,
        origin.names_that_are_bound_to_loopback_later,
        origin.answers_without_security_headers,
    ),
    "models": (
        models.templates_without_an_end,
        models.files_that_are_no_files,
        models.folders_with_code,
        models.names_that_are_no_names,
    ),
    "machine": (
        machine.a_worker_whose_disk_is_full,
        machine.a_worker_without_inodes,
        machine.a_worker_whose_disk_is_read_only,
        machine.a_program_that_exceeds_its_time_limit,
        machine.a_program_that_reports_nothing,
    ),
    "topology": (
        topology.every_queue_deleted,
        topology.every_binding_removed,
        topology.exchanges_deleted,
        topology.a_queue_of_commands_deleted_while_poison_arrives,
    ),
    "openapi": (
        openapi.generated_requests_for_every_operation,
        openapi.documents_that_no_parser_agrees_on,
        openapi.paths_and_queries_at_random,
    ),
    "secrets": (
        secrets.passwords_in_answers,
        secrets.passwords_in_logs,
        secrets.passwords_in_process_lists,
        secrets.passwords_in_files_that_others_may_read,
    ),
}
