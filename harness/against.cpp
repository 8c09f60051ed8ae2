// against.cpp: see against.hpp.
#include "harness/against.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "harness/baseline.hpp"
#include "harness/exit_codes.hpp"
#include "harness/measurer.hpp"
#include "harness/progress.hpp"
#include "harness/statistics.hpp"
#include "harness/timer.hpp"
#include "harness/visits.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

constexpr double kStart_s = 30;          // before a program that is alive says so, beyond the patience with a case: it opens the device and measures its rates
constexpr double kSaveEvery_s = 5;       // of what is already in the record and only grows
constexpr int kMostSamples = 20;         // a visit
constexpr std::int64_t kVisitPairs = 5;  // of each case, over all processes, at least; of each process 2 at least, so that both orders occur

/// One of the two programs, and its record as far as it is known.
struct Side {
  std::string program, path;
  std::optional<Provenance> head;
  std::vector<Measurer::PlannedGroup> plan;
  std::map<std::string, CaseRecord> rows;  // by case_id
  bool continued = false;                  // the file is there
};

class Session {
 public:
  Session(const Suite& suite, const RunFlags& flags, const std::string& out, const std::string& command)
      : suite_(suite), flags_(flags), command_(command), progress_(flags.json ? nullptr : &std::cerr, stderr_is_terminal()), start_s_(steady_now_s()) {
    std::random_device random;
    order_seed_ = random();
    session_ = fmt::format("{:08x}{:08x}", random(), random());
    sides_[0].program = fs::read_symlink("/proc/self/exe");
    sides_[0].path = out;
    sides_[1].program = fs::absolute(flags.against);
    sides_[1].path = against_path(out);
    visits_ = std::max<int>(2, static_cast<int>(2 * (kVisitPairs / flags.processes)));
    samples_ = std::min<int>(kMostSamples, kMaxSamples / (flags.processes * visits_));
  }

  void open() {
    if (access(sides_[1].program.c_str(), X_OK) != 0 || fs::is_directory(sides_[1].program)) {
      throw BadInput(fmt::format("--against {}: cannot be run; expected another build of prnn", flags_.against));
    }
    bool found[2];
    for (int i = 0; i < 2; ++i) found[i] = fs::exists(sides_[i].path);
    if (flags_.resume && (found[0] || found[1])) return load();
    for (Side& side : sides_) RecordWriter::create(side.path);  // before anything is measured: it may be refused
  }

  void run() {
    Random random(order_seed_);
    for (process_ = 0; process_ < flags_.processes; ++process_) {
      if (process_ > 0 && steady_now_s() - start_s_ > suite_.limits.total_s) break;
      round(random);
      save();
    }
  }

  /// Rows that are in a record already and have grown, and the heads.
  void save() {
    for (Side& side : sides_) {
      if (!side.head) continue;
      std::vector<std::string> lines{line_of(*side.head)};
      for (const CaseRecord& row : in_order(side)) lines.push_back(line_of(row));
      replace_record(side.path, lines);
    }
    saved_s_ = steady_now_s();
  }

  Finished finished() {
    Finished f{.rows = in_order(sides_[0]), .planned = {}, .phases = {}, .phases_json = {}, .unwritten = {}};
    for (const auto& group : sides_[0].plan) f.planned.insert(f.planned.end(), group.case_ids.begin(), group.case_ids.end());
    const std::vector<CaseRecord> others = in_order(sides_[1]);
    const auto odd = std::count_if(others.begin(), others.end(), [](const CaseRecord& row) { return row.status != row.expected_status && !excused(row.reason); });
    f.phases = fmt::format("took turns with {}: {} rows, {} not as expected; {}", sides_[1].program, others.size(), odd, sides_[1].path);
    f.phases_json = Json{{"against", sides_[1].path}, {"session", session_}};
    return f;
  }

  /// Takes back the files that open() made.
  void discard() const {
    for (const Side& side : sides_) {
      if (!flags_.resume) fs::remove(side.path);
    }
  }

  bool has_rows() const { return !sides_[0].rows.empty() || !sides_[1].rows.empty(); }
  Progress& progress() { return progress_; }

 private:
  /// Groups that both files hold whole, with the visits that both have, stay.
  void load() {
    std::map<std::string, std::set<std::string>> cases_of[2];
    std::set<std::string> failed;
    for (int i = 0; i < 2; ++i) {
      if (!fs::exists(sides_[i].path)) continue;
      const Records records = read_records(sides_[i].path);
      if (records.head_line.empty()) continue;
      sides_[i].head = records.head;
      sides_[i].continued = true;
      for (const CaseRecord& row : records.rows) {
        sides_[i].rows[row.case_id] = row;
        cases_of[i][row.group_id].insert(row.case_id);
        if (row.status == Status::error || row.status == Status::timeout) failed.insert(row.group_id);
      }
    }
    const auto& a = sides_[0].head;
    const auto& b = sides_[1].head;
    if (a && b && (!a->interleaved_with || !b->interleaved_with || a->interleaved_with->session != b->interleaved_with->session)) {
      throw BadInput(fmt::format("--resume: {} and {} are not of one run --against; expected the two records of one", sides_[0].path, sides_[1].path));
    }
    if (a && a->interleaved_with) {
      session_ = a->interleaved_with->session;
      order_seed_ = a->order_seed;
    }
    for (int i = 0; i < 2; ++i)
      std::erase_if(sides_[i].rows, [&](const auto& row) { return failed.contains(row.second.group_id) || !cases_of[1 - i].contains(row.second.group_id); });
    for (auto& [case_id, row] : sides_[0].rows) {
      const auto other = sides_[1].rows.find(case_id);
      if (other == sides_[1].rows.end()) continue;
      equalise(row, other->second);
      summarise(row), summarise(other->second);
    }
    for (const Side& side : sides_) {
      if (!fs::exists(side.path)) RecordWriter::create(side.path);
    }
  }

  std::vector<CaseRecord> in_order(const Side& side) const {
    std::vector<CaseRecord> rows;
    for (const auto& group : side.plan) {
      std::vector<CaseRecord> of_group;
      for (const std::string& case_id : group.case_ids) {
        if (const auto row = side.rows.find(case_id); row != side.rows.end()) of_group.push_back(row->second);
      }
      add_speedups(of_group, suite_.baselines, order_seed_);
      std::move(of_group.begin(), of_group.end(), std::back_inserter(rows));
    }
    return rows;
  }

  Measurer::Orders orders(int i) {
    Side& side = sides_[i];
    return {.begin =
                [&side, this](const Provenance& head) {
                  if (side.head && side.head->copy_bytes_per_s) {
                    Provenance now = head;
                    now.copy_bytes_per_s = side.head->copy_bytes_per_s;
                    require_same_run(side.path, *side.head, now);
                  } else {
                    side.head = head;
                    side.head->command = command_;
                    side.head->order_seed = order_seed_;
                  }
                  return Json{{"order_seed", order_seed_},
                              {"judge", process_ == 0},
                              {"copy_bytes_per_s", side.head->copy_bytes_per_s ? Json(*side.head->copy_bytes_per_s) : Json(nullptr)}};
                },
            .todo =
                [&side, i, this](const std::vector<Measurer::PlannedGroup>& plan, double copy_bytes_per_s, double launch_s) {
                  side.plan = plan;
                  side.head->copy_bytes_per_s = copy_bytes_per_s;
                  side.head->launch_s = launch_s;
                  std::vector<std::string> todo;
                  for (const auto& group : plan) {
                    if (!done(group, i)) todo.push_back(group.group_id);
                  }
                  return todo;
                }};
  }

  /// By as many processes as have been started; a group that only one program has is done once.
  bool done(const Measurer::PlannedGroup& group, int i) const {
    const auto& mine = sides_[i].rows;
    const auto& theirs = sides_[1 - i].rows;
    return std::all_of(group.case_ids.begin(), group.case_ids.end(), [&](const std::string& case_id) {
      const auto row = mine.find(case_id), other = theirs.find(case_id);
      if (row == mine.end()) return false;
      const bool paired = row->second.visits && other != theirs.end() && other->second.visits;
      return !paired || processes_of(row->second) > process_;
    });
  }

  std::vector<std::string> words(int i) const {
    std::vector<std::string> words{"run", flags_.suite, "--device", flags_.device, "--turns"};
    for (const std::string& set : flags_.set) words.insert(words.end(), {"--set", set});
    if (!flags_.cell.empty()) words.insert(words.end(), {"--cell", flags_.cell});
    if (!flags_.only.empty()) words.insert(words.end(), {"--only", flags_.only});
    if (flags_.shard != "1/1") words.insert(words.end(), {"--shard", flags_.shard});
    if (!flags_.inject.empty() && i == 0) words.insert(words.end(), {"--inject", flags_.inject});
    return words;
  }

  /// A fresh process of each program does every group that is left to do once.
  void round(Random& random) {
    const int first = static_cast<int>(random.below(2));  // who starts first may have better luck
    std::unique_ptr<Measurer> started[2];
    for (const int i : {first, 1 - first}) started[i] = std::make_unique<Measurer>(sides_[i].program, words(i), kStart_s + patience_s(suite_), orders(i));
    for (const int i : {first, 1 - first}) started[i]->greet();    // opening a device takes a second, and disturbs what is measured
    for (const int i : {first, 1 - first}) started[i]->advance();  // alone on the machine until its first group is ready
    introduce();
    Measurer &a = *started[0], &b = *started[1];
    for (std::int64_t count = 0;; ++count) {
      a.advance();
      b.advance();
      if (a.ended() && b.ended()) break;
      Measurer* ready[2] = {a.ended() ? nullptr : &a, b.ended() ? nullptr : &b};
      if (ready[0] && ready[1] && a.group_id() != b.group_id()) {
        const bool later_in_a = a.has_yet_to_do(b.group_id()), later_in_b = b.has_yet_to_do(a.group_id());
        if (later_in_a && later_in_b) throw ProgramFailed("the two programs plan the groups of this suite in different orders; expected builds of one history", kBadUsage);
        ready[later_in_b ? 0 : 1] = nullptr;  // the one that the other comes to later waits
      }
      const std::string group_id = (ready[0] ? a : b).group_id();
      progress_.show(process_ * total_groups() + count, flags_.processes * total_groups(), group_id);
      if (visit(ready, random)) take(ready);
    }
  }

  /// Each record says whose it is beside.
  void introduce() {
    for (int i = 0; i < 2; ++i) {
      if (!sides_[i].head || !sides_[1 - i].head) continue;
      sides_[i].head->interleaved_with = Interleaved{session_, i, sides_[1 - i].program, sides_[1 - i].head->commit};
    }
    if (process_ == 0) save();  // heads, and on --resume what is left of the rows
  }

  std::int64_t total_groups() const { return static_cast<std::int64_t>(std::max(sides_[0].plan.size(), sides_[1].plan.size())); }

  /// Turns at all cases of the groups that are ready; false: a program began anew, the other forgets.
  bool visit(Measurer* const (&ready)[2], Random& random) {
    struct Shared {
      std::optional<std::size_t> index[2];
      bool over = false;
    };
    std::map<std::string, Shared> shared;
    for (int i = 0; i < 2; ++i) {
      for (std::size_t k = 0; ready[i] && k < ready[i]->cases().size(); ++k) shared[ready[i]->cases()[k]].index[i] = k;
    }
    std::vector<Shared> cases;
    for (const auto& [case_id, each] : shared) cases.push_back(each);
    VisitOrder order(cases.size());
    for (int visit = 0; visit < visits_; ++visit) {
      for (const auto& [k, swapped] : order.next(random)) {
        Shared& each = cases[k];
        for (const int turn : {0, 1}) {
          const int i = swapped ? 1 - turn : turn;
          if (each.over || !each.index[i]) continue;
          const auto visited = ready[i]->take_turn(*each.index[i], samples_);
          if (!visited) {
            if (ready[1 - i]) ready[1 - i]->again();
            return false;
          }
          each.over = visited->samples == 0;
        }
      }
    }
    return true;
  }

  /// The rows of a group that has had its visits.
  void take(Measurer* const (&ready)[2]) {
    std::map<std::string, CaseRecord> next[2];
    for (int i = 0; i < 2; ++i) {
      if (!ready[i]) continue;
      const auto rows = ready[i]->end_group();
      for (const CaseRecord& row : rows.value_or(std::vector<CaseRecord>{})) next[i][row.case_id] = row;
    }
    for (int i = 0; i < 2; ++i) {
      for (auto& [case_id, row] : next[i]) {
        const auto other = next[1 - i].find(case_id);
        if (other == next[1 - i].end()) unpair(row);
        if (other != next[1 - i].end()) equalise(row, other->second);
      }
    }
    std::vector<CaseRecord> fresh[2];
    for (int i = 0; i < 2; ++i) {
      for (auto& [case_id, row] : next[i]) {
        if (const auto known = sides_[i].rows.find(case_id); known != sides_[i].rows.end()) {
          add_process(known->second, std::move(row), process_);
        } else {
          sides_[i].rows[case_id] = row;
          fresh[i].push_back(std::move(row));
        }
        summarise(sides_[i].rows[case_id]);
      }
    }
    for (int i = 0; i < 2; ++i) {
      if (!fresh[i].empty()) RecordWriter::append(sides_[i].path).write(fresh[i]);
    }
    if (fresh[0].empty() && fresh[1].empty() && steady_now_s() - saved_s_ > kSaveEvery_s) save();
  }

  const Suite& suite_;
  const RunFlags& flags_;
  std::string command_, session_;
  std::uint64_t order_seed_ = 1;
  Side sides_[2];
  Progress progress_;
  double start_s_, saved_s_ = 0;
  int process_ = 0, visits_ = 2, samples_ = 1;
};

}  // namespace

int run_against(const Suite& suite, const RunFlags& flags, const std::string& out, const std::string& command) {
  if (flags.processes < 1 || flags.processes > 50) throw BadInput(fmt::format("--processes {}: expected 1 to 50 of each program", flags.processes));
  catch_interrupts();
  Session session(suite, flags, out, command);
  session.open();
  std::string failure;
  int failure_code = 0;
  bool was_interrupted = false;
  try {
    session.run();
  } catch (const ProgramFailed& error) {
    failure = error.what();
    failure_code = session.has_rows() ? kBroken : error.code;
  } catch (const Interrupted&) {
    was_interrupted = true;
  } catch (const BadInput& error) {
    failure = error.what();
    failure_code = kBadUsage;
  }
  session.progress().end();
  if (failure_code == kBadUsage) {
    session.discard();
    throw BadInput(failure);
  }
  session.save();
  Finished finished = session.finished();
  finished.unwritten = failure;
  finished.interrupted = was_interrupted;
  return finish(suite, flags, out, finished);
}

}  // namespace prnn
