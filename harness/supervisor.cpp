// supervisor.cpp: see supervisor.hpp.
#include "harness/supervisor.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>

#include "harness/sweep.hpp"
#include "harness/timer.hpp"

namespace prnn {
namespace {

constexpr int kBroken = 5;  // design section 1
constexpr int kPassedOn[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};

template <std::size_t N>
void copy_text(char (&to)[N], std::string_view text) {
  to[text.copy(to, N - 1)] = 0;
}

/// Blocks the signals that the supervisor waits for, and gives the mask back.
class Signals {
 public:
  Signals() {
    std::signal(SIGCHLD, SIG_DFL);  // where it is ignored, as a caller may have left it, no child's end can be asked for
    sigemptyset(&waited_for_);
    sigaddset(&waited_for_, SIGCHLD);
    for (const int signal : kPassedOn) sigaddset(&waited_for_, signal);
    sigprocmask(SIG_BLOCK, &waited_for_, &before_);
  }
  ~Signals() { restore(); }
  void restore() const { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  /// The next one; 0: none came within so many seconds.
  int wait(double seconds) const {
    const timespec limit{.tv_sec = static_cast<time_t>(seconds), .tv_nsec = static_cast<long>(1e9 * (seconds - static_cast<double>(static_cast<time_t>(seconds))))};
    const int signal = sigtimedwait(&waited_for_, nullptr, &limit);
    return std::max(signal, 0);
  }

 private:
  sigset_t waited_for_{}, before_{};
};

void pass_on(int signal, pid_t child) {
  if (signal != SIGTSTP) return void(kill(child, signal));
  kill(child, SIGSTOP);
  raise(SIGSTOP);  // until the shell continues us
  kill(child, SIGCONT);
}

[[noreturn]] void end_by(int signal) {
  std::signal(signal, SIG_DFL);
  raise(signal);
  _exit(kBroken);
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) return fmt::format("signal {} ({}) ended the process", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return fmt::format("the process ended with exit code {}", WEXITSTATUS(status));
}

/// In the child: never returns.
[[noreturn]] void do_work(const std::function<int(const Attempt&)>& work, const Attempt& attempt, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kBroken);  // killed before it could be said
  setpgid(0, 0);                            // a terminal's interrupt comes once, through the supervisor
  std::signal(SIGTTOU, SIG_IGN);            // and the terminal may be written to all the same
  int code = kBroken;
  try {
    code = work(attempt);
  } catch (const DeviceLost& error) {
    attempt.note.lost(error.case_id, error.what());
  }
  std::cout.flush();
  _exit(code);
}

}  // namespace

void FlightNote::set(std::string_view case_id) {
  busy_ = false;
  if (case_id != case_id_) copy_text(case_id_, case_id);
  steps_ += 1;
  busy_ = !case_id.empty();
}

void FlightNote::lost(std::string_view case_id, std::string_view reason) {
  set(case_id);
  copy_text(reason_, reason);
}

int supervise(double patience_s, const std::function<int(const Attempt&)>& work) {
  const double tick_s = std::clamp(patience_s / 10, 1e-3, 1.0), start_s = steady_now_s();
  void* shared = mmap(nullptr, sizeof(FlightNote), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw std::bad_alloc();
  const auto unmap = [](FlightNote* note) { munmap(note, sizeof *note); };
  const std::unique_ptr<FlightNote, decltype(unmap)> note(new (shared) FlightNote, unmap);
  EndedCases ended;
  const Signals signals;
  for (;;) {
    note->set("");
    note->reason_[0] = 0;
    std::cout.flush();  // or both would write what is left
    const pid_t parent = getpid(), child = fork();
    if (child < 0) throw std::runtime_error(fmt::format("no process for the work: {}", std::strerror(errno)));
    if (child == 0) {
      signals.restore();
      do_work(work, {ended, *note, steady_now_s() - start_s}, parent);
    }

    int status = 0;
    std::uint64_t steps = 0;
    double still_s = 0;  // in ticks: time in which all processes are stopped does not count
    bool hung = false;
    while (waitpid(child, &status, WNOHANG) == 0) {
      const int signal = signals.wait(tick_s);
      if (signal != 0 && signal != SIGCHLD) pass_on(signal, child);
      if (const std::uint64_t now = note->steps_; now != steps || !note->busy_) {
        steps = now;
        still_s = 0;
      } else if (signal == 0 && (still_s += tick_s) >= patience_s) {
        hung = true;
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        break;
      }
    }

    const std::string case_id = note->case_id_;
    if (WIFEXITED(status) && case_id.empty()) return WEXITSTATUS(status);
    if (WIFSIGNALED(status) && std::find(std::begin(kPassedOn), std::end(kPassedOn), WTERMSIG(status)) != std::end(kPassedOn)) {
      signals.restore();
      end_by(WTERMSIG(status));
    }
    if (case_id.empty()) {
      std::cerr << how_it_ended(status) << " while no case was in flight; what the record holds is whole, --resume continues it" << std::endl;
      return kBroken;
    }
    const EndedCase end = hung               ? EndedCase{Status::timeout, fmt::format("no sign of life for {:.3g} s; its process was killed", patience_s)}
                          : note->reason_[0] ? EndedCase{Status::error, note->reason_}
                                             : EndedCase{Status::error, how_it_ended(status)};
    if (!ended.emplace(case_id, end).second) throw std::logic_error(case_id + " was run again although it had ended a process");
    std::cerr << case_id << ": " << end.reason << "; the rest goes on in a fresh process" << std::endl;
  }
}

}  // namespace prnn
