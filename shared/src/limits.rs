//! Every bound of the link, of a sandbox and of a turn, by name. Sizes are in bytes; times are in
//! milliseconds or seconds, as the name says.

/// The protocol of the link. The two halves compare only this number.
pub const PROTOCOL: u32 = 1;

/// The ready line, which is the first output of a sandbox.
pub const READY_BYTES: usize = 8192;
/// How long a started sandbox may take until its ready line.
pub const READY_SECONDS: u64 = 20;
/// The handoff line, prompt included.
pub const HANDOFF_BYTES: usize = 4 << 20;
/// A prompt.
pub const PROMPT_BYTES: usize = 1 << 20;

/// One line of `POST /events` or `GET /commands`.
pub const LINE_BYTES: usize = 8 << 20;
/// Events of one session. If the sandbox sends more, the host ends it.
pub const EVENTS: u64 = 1_000_000;
/// Bytes of all event lines of one session.
pub const EVENTS_BYTES: u64 = 1 << 30;
/// The body of one model request.
pub const REQUEST_BYTES: usize = 32 << 20;
/// The answer to a compaction.
pub const COMPACTION_BYTES: usize = 16 << 20;
/// The answer to one model request, as streamed.
pub const RESPONSE_BYTES: u64 = 256 << 20;
/// One server-sent event.
pub const SSE_EVENT_BYTES: usize = 16 << 20;
/// How much of the body of an error answer is read.
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
/// How often the host pings the sandbox.
pub const LINK_PING_SECONDS: u64 = 2;
/// How long the answer to a ping may take: commands may leave the sandbox little of the processor.
/// Whether the sandbox still runs is known from the engine.
pub const LINK_PONG_SECONDS: u64 = 30;
/// How long HTTP/2's first frames may take after the handoff.
pub const LINK_HANDSHAKE_SECONDS: u64 = 30;
/// How long a write on the pipe may make no progress.
pub const LINK_STALL_SECONDS: u64 = 30;

/// Entries (files, directories, links) of a workspace.
pub const WORKSPACE_ENTRIES: u64 = 200_000;
/// Entries of a set of changes, with the folders that they lie in and that it does not name.
pub const CHANGES_ENTRIES: u64 = 200_000;
/// A path, from the workspace's root.
pub const PATH_BYTES: usize = 4096;
/// A symbolic link's target.
pub const LINK_TARGET_BYTES: usize = 4096;

/// All paths and link targets of a set of changes, those folders too, or of a workspace, together.
pub const PATHS_BYTES: usize = 32 << 20;
/// How many paths that were left out are named one by one. The rest are counted.
pub const LEFT_OUT_NAMED: usize = 200;
/// How many paths that were left out are sent to the sandbox.
pub const LEFT_OUT_SENT: usize = 2_000;
/// How many of them are named to the model.
pub const LEFT_OUT_IN_PROMPT: usize = 50;
/// A file whose difference is shown line by line. Of a larger one it is only said that it differs.
pub const DIFF_FILE_BYTES: u64 = 2 << 20;
/// How long to search for the shortest difference of one file.
pub const DIFF_FILE_MS: u64 = 500;
/// How long to search for the differences of all files.
pub const DIFF_ALL_MS: u64 = 3_000;
/// Components of a path.
pub const PATH_COMPONENTS: usize = 256;

/// AGENTS.md and CLAUDE.md, all of them together.
pub const PROJECT_DOCS_BYTES: usize = 32 << 10;
/// How much of one tool's output is sent to the model, if the catalogue does not say.
pub const TOOL_OUTPUT_BYTES: usize = 10_000;
/// How much of one command's output is kept, head and tail, before it is cut for the model.
pub const COMMAND_OUTPUT_BYTES: usize = 1 << 20;
/// How long a command may take, if the model does not say.
pub const COMMAND_SECONDS: u64 = 120;
/// The longest time that the model can give a command.
pub const COMMAND_SECONDS_MAX: u64 = 3600;
/// How long a command's output may stay open after the command itself ended, in milliseconds.
pub const COMMAND_LINGER_MS: u64 = 200;
/// Lines that `read_file` shows, if the model does not say.
pub const READ_LINES: usize = 2_000;
/// How much of one line is shown.
pub const READ_LINE_BYTES: usize = 2_000;
/// How far into a file `read_file` looks for the lines asked for and the total.
pub const READ_SCAN_BYTES: u64 = 64 << 20;
/// The largest file that `apply_patch` changes or `write_file` compares with.
pub const EDIT_BYTES: u64 = 8 << 20;
/// How much of one change is shown.
pub const DIFF_BYTES: usize = 4_000;
/// Entries that `list_files` shows, if the model does not say.
pub const LIST_ENTRIES: usize = 200;
/// Entries that `list_files` looks at.
pub const LIST_SCAN_ENTRIES: usize = 200_000;
/// One file of ignore rules.
pub const IGNORE_FILE_BYTES: u64 = 256 << 10;
/// How much memory the structure of one JSON text may take, without its strings. The text is a
/// request, an event of an answer, the catalogue, or a line of a recording. A history of 10,000
/// items is well below this bound, and so is a catalogue of 1,000 models.
pub const JSON_STRUCTURE_BYTES: usize = 16 << 20;
/// The same for one event from the sandbox. Several are in memory at once.
pub const EVENT_STRUCTURE_BYTES: usize = 8 << 20;
/// How many refused requests of one session are reported. The rest are refused without a report.
pub const REFUSALS_SHOWN: u32 = 50;
/// Tunnels that are open at once.
pub const TUNNELS: usize = 8;
/// How long a tunnel may take until it names its server.
pub const TUNNEL_HELLO_SECONDS: u64 = 10;
/// How long a tunnel may be silent in both directions.
pub const TUNNEL_IDLE_SECONDS: u64 = RELAY_IDLE_SECONDS;
/// The first TLS message, which names the server.
pub const CLIENT_HELLO_BYTES: usize = 32 << 10;
/// The model catalogue.
pub const CATALOGUE_BYTES: usize = 4 << 20;
/// A recording, one of its lines, and how many exchanges it has.
pub const RECORDING_BYTES: u64 = 256 << 20;
pub const RECORDING_LINE_BYTES: usize = 24 << 20;
pub const RECORDING_EXCHANGES: usize = 20_000;
/// How much a changes stream may hold in addition to the files: names and padding.
pub const CHANGES_OVERHEAD_BYTES: u64 = 512 << 20;
/// Calls in one answer of the model.
pub const CALLS_AT_ONCE: usize = 128;

/// How often one model request is tried again.
pub const RETRIES: u32 = 5;
/// The pause before the first retry. Each next one is twice as long, give or take a tenth.
pub const RETRY_FIRST_MS: u64 = 200;
/// The longest wait before a retry that a backend may ask for.
pub const RETRY_AFTER_SECONDS: u64 = 120;
/// How long a model's stream may be silent, for the side that asks the model. A comment ends a
/// silence; a stream of comments is bounded by the seconds of the turn.
pub const STREAM_IDLE_SECONDS: u64 = 300;
/// The same for the host's relay. It is longer, so that the sandbox gives up first and tries again.
pub const RELAY_IDLE_SECONDS: u64 = STREAM_IDLE_SECONDS + 30;
/// How long connecting to the backend may take.
pub const CONNECT_SECONDS: u64 = 20;

/// How long a cancelled turn may take to send its changes and end.
pub const CANCEL_MS: u64 = 2_000;
/// The part of [`CANCEL_MS`] for sending the changes. The rest is for ending commands.
pub const CHANGES_CANCELLED_MS: u64 = CANCEL_MS * 3 / 4;
/// How long sending the changes may take if the turn was not cancelled.
pub const CHANGES_SECONDS: u64 = 600;
/// How often the edits so far are sent during a turn.
pub const SO_FAR_SECONDS: u64 = 30;
/// How long that may take. The next calls wait for it.
pub const SO_FAR_MS: u64 = 5_000;
/// Bytes of files in the edits so far.
pub const SO_FAR_BYTES: u64 = 64 << 20;
/// How long the model catalogue may take.
pub const CATALOGUE_SECONDS: u64 = 20;
/// The same if the model was named: then the catalogue is not required.
pub const CATALOGUE_SECONDS_NAMED: u64 = 5;
/// How long the sandbox waits for a fresh token after a 401. The host may have to wait for another
/// program that renews the same login, and then for the issuer.
pub const FRESH_TOKEN_SECONDS: u64 = 100;
