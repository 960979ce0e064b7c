//! Every bound of the link and of a run, by name. Sizes are bytes, times are milliseconds or
//! seconds as the name says.

/// The protocol of the link: the only number the two halves compare.
pub const PROTOCOL: u32 = 1;

/// The ready line, the first thing a sandbox says.
pub const READY_BYTES: usize = 8192;
/// How long a started sandbox may take to say it is ready.
pub const READY_SECONDS: u64 = 20;
/// The handoff line, prompt included.
pub const HANDOFF_BYTES: usize = 4 << 20;
/// A prompt.
pub const PROMPT_BYTES: usize = 1 << 20;

/// One line of `POST /events` or `GET /commands`.
pub const LINE_BYTES: usize = 8 << 20;
/// Events of one run that the host keeps; a run that sends more is ended.
pub const EVENTS: u64 = 1_000_000;
/// Bytes of all event lines of one run.
pub const EVENTS_BYTES: u64 = 1 << 30;
/// The body of one model request.
pub const REQUEST_BYTES: usize = 32 << 20;
/// The answer to a compaction.
pub const COMPACTION_BYTES: usize = 16 << 20;
/// The answer to one model request, as streamed.
pub const RESPONSE_BYTES: u64 = 256 << 20;
/// One server-sent event.
pub const SSE_EVENT_BYTES: usize = 16 << 20;
/// The body of an error answer that is read.
pub const ERROR_BODY_BYTES: usize = 64 << 10;
/// Items in one request's input.
pub const INPUT_ITEMS: usize = 20_000;
/// Tools in one request.
pub const TOOLS: usize = 256;

/// Concurrent streams a sandbox may open on the link.
pub const LINK_STREAMS: u32 = 64;
/// The header list of one request on the link.
pub const LINK_HEADER_BYTES: u32 = 16 << 10;
/// What the host buffers for one stream it sends.
pub const LINK_SEND_BUFFER_BYTES: usize = 256 << 10;
/// Flow-control window of one stream.
pub const LINK_STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Flow-control window of the whole link.
pub const LINK_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Streams the sandbox may reset before they were served.
pub const LINK_PENDING_RESETS: usize = 20;
/// Streams the host may reset and still remember.
pub const LINK_LOCAL_RESETS: usize = 64;
/// How often the host asks whether the sandbox is still there.
pub const LINK_PING_SECONDS: u64 = 2;
/// How long the answer may take: commands may leave the sandbox little of the processor. Whether it
/// lives is the engine's word.
pub const LINK_PONG_SECONDS: u64 = 30;
/// How long HTTP/2's first frames may take after the handoff.
pub const LINK_HANDSHAKE_SECONDS: u64 = 30;
/// How long a write on the pipe may make no progress.
pub const LINK_STALL_SECONDS: u64 = 30;

/// Entries (files, folders, links) of a workspace.
pub const WORKSPACE_ENTRIES: u64 = 200_000;
/// Entries of a set of changes.
pub const CHANGES_ENTRIES: u64 = 200_000;
/// A path, from the workspace's root.
pub const PATH_BYTES: usize = 4096;
/// A symbolic link's target.
pub const LINK_TARGET_BYTES: usize = 4096;

/// All paths and link targets of a set of changes, or of a workspace, together.
pub const PATHS_BYTES: usize = 32 << 20;
/// Paths that were left out of a workspace and are named one by one; the rest are counted.
pub const LEFT_OUT_NAMED: usize = 200;
/// Paths that were left out of a workspace and that the sandbox is told of.
pub const LEFT_OUT_TOLD: usize = 2_000;
/// Those of them that the model is told of, by name.
pub const LEFT_OUT_SAID: usize = 50;
/// A file that is shown as a difference line by line; a larger one is only said to differ.
pub const DIFF_FILE_BYTES: u64 = 2 << 20;
/// How long one file's difference may be searched for its shortest form.
pub const DIFF_FILE_MS: u64 = 500;
/// How long all files' differences may be.
pub const DIFF_ALL_MS: u64 = 3_000;
/// Folders of a path and its name.
pub const PATH_COMPONENTS: usize = 256;

/// AGENTS.md and CLAUDE.md, all of them together.
pub const PROJECT_DOCS_BYTES: usize = 32 << 10;
/// What the model gets to see of one tool's output, where the catalogue does not say.
pub const TOOL_OUTPUT_BYTES: usize = 10_000;
/// What is kept of one command's output, head and tail, before it is cut for the model.
pub const COMMAND_OUTPUT_BYTES: usize = 1 << 20;
/// How long a command may take where the model does not say.
pub const COMMAND_SECONDS: u64 = 120;
/// How long a command may take whatever the model says.
pub const COMMAND_SECONDS_MOST: u64 = 3600;
/// How long a command's output may stay open after the command itself ended, in milliseconds.
pub const COMMAND_LINGER_MS: u64 = 200;
/// Lines that `read_file` shows where the model does not say.
pub const READ_LINES: usize = 2_000;
/// What is shown of one line.
pub const READ_LINE_BYTES: usize = 2_000;
/// How far into a file `read_file` looks for the lines asked for and the total.
pub const READ_SCAN_BYTES: u64 = 64 << 20;
/// A file that `apply_patch` changes or `write_file` compares with.
pub const EDIT_BYTES: u64 = 8 << 20;
/// What is shown of one change.
pub const DIFF_BYTES: usize = 4_000;
/// Entries that `list_files` shows where the model does not say.
pub const LIST_ENTRIES: usize = 200;
/// Entries that `list_files` looks at.
pub const LIST_SCAN_ENTRIES: usize = 200_000;
/// One file of ignore rules.
pub const IGNORE_FILE_BYTES: u64 = 256 << 10;
/// What the structure of one JSON text may take in memory, beside the text: of a request, of an
/// event of an answer, of the catalogue, of a line of a recording. A history of 10,000 items is well
/// below, and so is a catalogue of 1,000 models.
pub const JSON_STRUCTURE_BYTES: usize = 16 << 20;
/// The same of one event from the sandbox: several are in memory at once.
pub const EVENT_STRUCTURE_BYTES: usize = 8 << 20;
/// Refused requests of one run that people are told about; the rest is refused in silence.
pub const REFUSALS_TOLD: u32 = 50;
/// Tunnels that are open at once.
pub const TUNNELS: usize = 8;
/// How long a tunnel may take to say which server it wants.
pub const TUNNEL_HELLO_SECONDS: u64 = 10;
/// How long a tunnel may be silent in both directions.
pub const TUNNEL_IDLE_SECONDS: u64 = RELAY_IDLE_SECONDS;
/// The first message of TLS, which names the server.
pub const CLIENT_HELLO_BYTES: usize = 32 << 10;
/// The model catalogue.
pub const CATALOGUE_BYTES: usize = 4 << 20;
/// A recording, one of its lines, and its exchanges.
pub const CASSETTE_BYTES: u64 = 256 << 20;
pub const CASSETTE_LINE_BYTES: usize = 24 << 20;
pub const CASSETTE_EXCHANGES: usize = 20_000;
/// What a changes stream may hold beside the files themselves: names and padding.
pub const CHANGES_OVERHEAD_BYTES: u64 = 512 << 20;
/// Calls in one answer of the model.
pub const CALLS_AT_ONCE: usize = 128;

/// Tries after the first of one model request.
pub const RETRIES: u32 = 5;
/// The pause before the first retry; each next one is twice as long, give or take a tenth.
pub const RETRY_FIRST_MS: u64 = 200;
/// How long a server may ask us to wait before a retry.
pub const RETRY_AFTER_SECONDS: u64 = 120;
/// How long a model's stream may be silent, for who asks the model. Comments are no silence: they
/// are bounded by the run's seconds.
pub const STREAM_IDLE_SECONDS: u64 = 300;
/// The same in the host's relay: longer, so that it is the sandbox that gives up and asks again.
pub const RELAY_IDLE_SECONDS: u64 = STREAM_IDLE_SECONDS + 30;
/// How long a connection to the backend may take to be made.
pub const CONNECT_SECONDS: u64 = 20;

/// How long a cancelled run may take to bring its changes out and end.
pub const CANCEL_MS: u64 = 2_000;
/// The part of [`CANCEL_MS`] in which the changes go out; the rest is for ending commands.
pub const CHANGES_CANCELLED_MS: u64 = CANCEL_MS * 3 / 4;
/// How long the changes of a run that was not cancelled may take to go out.
pub const CHANGES_SECONDS: u64 = 600;
/// How often the edits so far go out while a turn runs.
pub const SO_FAR_SECONDS: u64 = 30;
/// How long that may take: the next calls wait for it.
pub const SO_FAR_MS: u64 = 5_000;
/// Bytes of files in the edits so far.
pub const SO_FAR_BYTES: u64 = 64 << 20;
/// How long the model catalogue may take.
pub const CATALOGUE_SECONDS: u64 = 20;
/// The same where the model was named, so that the catalogue can be done without.
pub const CATALOGUE_SECONDS_NAMED: u64 = 5;
/// How long a fresh token may take to come down after a 401: another program that renews the same
/// login is waited for, and then the issuer.
pub const FRESH_TOKEN_SECONDS: u64 = 100;
