// measurer.cpp: see measurer.hpp.
#include "harness/measurer.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "harness/exit_codes.hpp"
#include "harness/progress.hpp"
#include "harness/timer.hpp"
#include "harness/turns.hpp"

namespace prnn {
namespace {

constexpr double kTick_s = 0.1;  // between looks at the interrupt key
constexpr std::size_t kLongestLine = 1 << 28;

/// In the child: becomes the program.
[[noreturn]] void become(const std::string& program, const std::vector<std::string>& words, int in, int out, int err, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kBroken);
  setpgid(0, 0);  // a terminal's interrupt is the parent's affair
  dup2(in, STDIN_FILENO), dup2(out, STDOUT_FILENO), dup2(err, STDERR_FILENO);
  std::vector<char*> arguments{const_cast<char*>(program.c_str())};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  execv(program.c_str(), arguments.data());
  dprintf(STDERR_FILENO, "%s\n", std::strerror(errno));
  _exit(127);
}

}  // namespace

Measurer::Measurer(std::string program, const std::vector<std::string>& words, double patience_s, Orders orders)
    : program_(std::move(program)), patience_s_(patience_s), orders_(std::move(orders)) {
  int to_child[2], from_child[2];
  if (pipe2(to_child, O_CLOEXEC) != 0) throw ProgramFailed(fmt::format("{}: no pipe: {}", program_, std::strerror(errno)), kBroken);
  if (pipe2(from_child, O_CLOEXEC) != 0) {
    close(to_child[0]), close(to_child[1]);
    throw ProgramFailed(fmt::format("{}: no pipe: {}", program_, std::strerror(errno)), kBroken);
  }
  out_ = to_child[1], in_ = from_child[0];
  said_ = memfd_create("stderr", MFD_CLOEXEC);
  std::cout.flush();
  const pid_t parent = getpid();
  child_ = fork();
  if (child_ == 0) become(program_, words, to_child[0], from_child[1], said_, parent);
  close(to_child[0]), close(from_child[1]);
  if (child_ < 0) fail(fmt::format("no process for it: {}", std::strerror(errno)));
}

Measurer::~Measurer() {
  if (child_ > 0) {
    kill(child_, SIGKILL);  // its own children follow: each asked for the signal
    waitpid(child_, nullptr, 0);
  }
  if (!failed_) std::cerr << last_words();  // a case that ended its process was named there
  close(in_), close(out_), close(said_);
}

std::string Measurer::last_words() const {
  std::string text;
  char bytes[4096];
  for (off_t at = 0;;) {
    const ssize_t count = pread(said_, bytes, sizeof bytes, at);
    if (count <= 0) return text;
    text.append(bytes, static_cast<std::size_t>(count));
    at += count;
  }
}

void Measurer::fail(const std::string& why) {
  std::string words = last_words();
  words.erase(words.find_last_not_of("\n") + 1);
  words = words.substr(words.rfind('\n') + 1);
  const std::string quoted = words.empty() ? "" : fmt::format(" ({})", words);
  failed_ = true;
  if (!greeted_) throw ProgramFailed(fmt::format("--against: {}: {}{}; expected a prnn that takes turns", program_, why, quoted), kBadUsage);
  throw ProgramFailed(fmt::format("{}: {}{}; what the records hold is whole, --resume continues them", program_, why, quoted), kBroken);
}

std::optional<std::string> Measurer::line() {
  const double start_s = steady_now_s();
  for (;;) {
    if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
      std::string text = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return text;
    }
    if (interrupted()) throw Interrupted{};
    if (buffer_.size() > kLongestLine) fail("says a line without an end");
    pollfd wait{.fd = in_, .events = POLLIN, .revents = 0};
    const int ready = poll(&wait, 1, static_cast<int>(1e3 * kTick_s));
    if (ready <= 0) {
      if (steady_now_s() - start_s > patience_s_) {
        kill(child_, SIGKILL);
        fail(fmt::format("no sign of life for {:.3g} s; it was killed", patience_s_));
      }
      continue;
    }
    char bytes[1 << 16];
    const ssize_t count = ::read(in_, bytes, sizeof bytes);
    if (count == 0) return std::nullopt;
    if (count > 0) buffer_.append(bytes, static_cast<std::size_t>(count));
  }
}

void Measurer::say(const Json& json) const {
  LinePipe(in_, out_).write(json.dump());  // of one that is gone the next answer tells
}

void Measurer::finish() {
  int status = 0;
  waitpid(child_, &status, 0);
  child_ = -1;
  ended_ = true;
  if (WIFSIGNALED(status)) fail(fmt::format("signal {} ({}) ended it", WTERMSIG(status), strsignal(WTERMSIG(status))));
  if (!greeted_ || WEXITSTATUS(status) != 0) fail(fmt::format("it ended with exit code {}", WEXITSTATUS(status)));
}

bool Measurer::begun_anew(const Json& said) {
  if (said.contains("hello")) {
    if (said.at("hello") != kTurnsVersion) fail(fmt::format("it takes turns by version {} of the rules, not {}", said.at("hello").dump(), kTurnsVersion));
    const Provenance head = provenance(said.at("head"));
    greeted_ = true;
    ready_ = false;
    say({{"begin", orders_.begin(head)}});
    return true;
  }
  if (said.contains("plan")) {
    std::vector<PlannedGroup> plan;
    for (const Json& group : said.at("plan")) plan.push_back({group.at("group_id").get<std::string>(), group.at("case_ids").get<std::vector<std::string>>()});
    todo_ = orders_.todo(plan, said.at("copy_bytes_per_s").get<double>(), said.at("launch_s").get<double>());
    say({{"todo", todo_}});
    return true;
  }
  return false;
}

Json Measurer::answer() {
  for (;;) {
    const std::optional<std::string> text = greeting_ ? std::exchange(greeting_, std::nullopt) : line();
    if (!text) {
      finish();
      return nullptr;
    }
    const Json said = Json::parse(*text, nullptr, false);
    if (!said.is_object()) fail("what it says is not understood: " + text->substr(0, 60));
    if (!said.contains("working")) return said;
  }
}

void Measurer::greet() {
  if (const Json said = answer(); !said.is_null()) greeting_ = said.dump();
}

void Measurer::advance() {
  while (!ready_ && !ended_) {
    const Json said = answer();
    if (said.is_null()) return;
    try {
      if (begun_anew(said)) continue;
      group_id_ = said.at("ready").get<std::string>();
      cases_ = said.at("cases").get<std::vector<std::string>>();
    } catch (const Json::exception&) {
      fail("what it says is not understood: " + said.dump().substr(0, 60));
    }
    std::erase(todo_, group_id_);
    ready_ = true;
  }
}

bool Measurer::has_yet_to_do(const std::string& group_id) const { return std::find(todo_.begin(), todo_.end(), group_id) != todo_.end(); }

std::optional<Measurer::Visited> Measurer::take_turn(std::size_t index, int samples) {
  say({{"turn", index}, {"samples", samples}});
  const Json said = answer();
  try {
    if (!said.is_null() && !begun_anew(said)) return Visited{said.at("samples").get<std::int64_t>(), said.at("spent_s").get<double>()};
  } catch (const Json::exception&) {
    fail("what it says is not understood: " + said.dump().substr(0, 60));
  }
  return std::nullopt;
}

void Measurer::again() { say({{"again", true}}); }

std::optional<std::vector<CaseRecord>> Measurer::end_group() {
  say({{"end", true}});
  ready_ = false;
  const Json said = answer();
  std::vector<CaseRecord> rows;
  std::string why = "a list was expected";
  try {
    if (said.is_null() || begun_anew(said)) return std::nullopt;
    for (const Json& row : said.at("rows")) rows.push_back(case_record(row));
    return rows;
  } catch (const Json::exception& error) {
    why = error.what();
  }
  fail("its rows are not understood: " + why);
}

}  // namespace prnn
