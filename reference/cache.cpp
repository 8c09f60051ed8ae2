// cache.cpp: truths on disk. Draws do not depend on B, D or L (regimes public, text and trained aside), so a channel's entry serves every shape.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>

#include <unistd.h>

#include "kernels/hash.hpp"
#include "kernels/ops/trained.hpp"
#include "reference/share_time.hpp"
#include "reference/user_cell.hpp"

namespace prnn {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kMagic[8] = {'p', 'r', 'n', 'n', 't', 'r', 'u', '1'};

/// Everything that a channel's truth depends on, but its length.
std::string key_of(const Problem& p, std::int64_t b, std::int64_t d) {
  std::ostringstream key;
  key << std::hexfloat << "generator=" << kGeneratorVersion << " reference=" << kReferenceVersion << " cell=" << p.cell << " storage=" << to_string(p.storage)
      << " regime=" << p.regime << " weight_std=";
  if (p.weight_std) key << *p.weight_std;
  key << " h0=" << p.h0 << " seed=" << p.seed << " b=" << b << " d=" << d;
  if (p.regime == "public") key << " hidden=" << p.hidden;
  if (reads_text(p.regime) && p.text) key << " seq_len=" << p.seq_len << " text=" << hash_bytes(p.text->data(), p.text->size());
  if (p.regime == "trained") key << " model=" << hash_bytes(trained_text(p.cell).data(), trained_text(p.cell).size());
  if (const std::string source = loaded_digest(p.cell); !source.empty()) key << " source=" << source;  // a name alone does not say what a user's cell is
  return key.str();
}

template <class T>
void put(std::string& bytes, const T* values, std::size_t count) {
  bytes.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

/// Reads what put() wrote; false once the bytes run out.
struct Reader {
  const std::string& bytes;
  std::size_t at = 0;

  template <class T>
  bool take(T* values, std::size_t count) {
    if (count > (bytes.size() - at) / sizeof(T)) return false;
    if (count) std::memcpy(values, bytes.data() + at, count * sizeof(T));
    at += count * sizeof(T);
    return true;
  }
};

/// magic, {key length, steps, elements, ends}, key, states, difference, checksum of all before; in native byte order, under which a foreign checksum does not match.
std::string pack(const std::string& key, const Truth& truth) {
  std::string bytes;
  const std::int64_t header[] = {std::int64_t(key.size()), truth.steps, std::int64_t(truth.states.size()), truth.ends};
  put(bytes, kMagic, sizeof kMagic);
  put(bytes, header, std::size(header));
  put(bytes, key.data(), key.size());
  put(bytes, truth.states.data(), truth.states.size());
  put(bytes, truth.difference.data(), truth.difference.size());
  const std::uint64_t checksum = hash_bytes(bytes.data(), bytes.size());
  put(bytes, &checksum, 1);
  return bytes;
}

std::optional<Truth> unpack(const std::string& key, const std::string& bytes) {
  std::uint64_t checksum = 0;
  if (bytes.size() < sizeof checksum) return std::nullopt;
  const std::size_t body = bytes.size() - sizeof checksum;
  std::memcpy(&checksum, bytes.data() + body, sizeof checksum);
  if (checksum != hash_bytes(bytes.data(), body)) return std::nullopt;

  Reader reader{bytes};
  char magic[sizeof kMagic];
  std::int64_t header[4];
  if (!reader.take(magic, sizeof magic) || std::memcmp(magic, kMagic, sizeof magic) != 0 || !reader.take(header, std::size(header))) return std::nullopt;
  std::string stored_key(static_cast<std::size_t>(header[0]), '\0');
  Truth truth;
  truth.steps = header[1];
  truth.ends = header[3] != 0;
  truth.states.resize(std::size_t(header[2]));
  truth.difference.resize(std::size_t(header[2]));
  if (!reader.take(stored_key.data(), stored_key.size()) || stored_key != key || !reader.take(truth.states.data(), truth.states.size()) ||
      !reader.take(truth.difference.data(), truth.difference.size()) || reader.at != body) {
    return std::nullopt;
  }
  return truth;
}

/// What a file holds for a key; none where it is missing, damaged, or of another key.
std::optional<Truth> load(const std::filesystem::path& file, const std::string& key) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return unpack(key, std::move(bytes).str());
}

void save(const std::filesystem::path& file, const std::string& key, const Truth& truth) {
  static std::atomic<unsigned> count{0};
  const std::filesystem::path temporary = file.string() + "." + std::to_string(getpid()) + "-" + std::to_string(count++) + ".tmp";
  const std::string bytes = pack(key, truth);
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), std::streamsize(bytes.size()));
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(temporary, file, error);
  if (!out || error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw std::runtime_error("cannot write " + file.string() + ": " + (error ? error.message() : "disk full?"));
  }
}

bool serves(const std::optional<Truth>& truth, std::int64_t seq_len) { return truth && (truth->ends || truth->steps >= seq_len); }

Truth shortened(Truth truth, std::int64_t seq_len) {
  if (truth.steps <= seq_len) return truth;
  const std::size_t elements = truth.states.size() / std::size_t(truth.steps) * std::size_t(seq_len);
  truth.steps = seq_len;
  truth.ends = false;
  truth.states.resize(elements);
  truth.difference.resize(elements);
  return truth;
}

}  // namespace

std::vector<std::array<std::int64_t, 2>> sampled_channels(const Problem& p) {
  // The fourth is anywhere, but the same for every length: the cache serves all of them from one entry.
  const std::int64_t shape[] = {p.batch, p.hidden};
  const std::uint64_t hash = hash_bytes(shape, sizeof shape);
  const std::array<std::int64_t, 2> wanted[] = {{0, 0},
                                                {p.batch / 2, p.hidden / 2},
                                                {p.batch - 1, p.hidden - 1},
                                                {std::int64_t((hash >> 32) % std::uint64_t(p.batch)), std::int64_t((hash & 0xffffffffu) % std::uint64_t(p.hidden))}};
  std::vector<std::array<std::int64_t, 2>> channels;
  for (const auto& channel : wanted) {
    if (std::find(channels.begin(), channels.end(), channel) == channels.end()) channels.push_back(channel);
  }
  return channels;
}

ReferenceCache::ReferenceCache(std::filesystem::path directory, double limit_s) : GradientReference(limit_s), directory_(std::move(directory)) {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  if (error || access(directory_.c_str(), W_OK) != 0) throw BadInput(directory_.string() + ": cannot be written; expected a directory for the reference cache");
}

std::filesystem::path ReferenceCache::file_of(const Problem& p, std::int64_t b, std::int64_t d) const {
  const std::string key = key_of(p, b, d);
  char name[17];
  std::snprintf(name, sizeof name, "%016llx", static_cast<unsigned long long>(hash_bytes(key.data(), key.size())));
  return directory_ / (p.cell + "-" + p.regime + "-" + name + ".truth");
}

ReferenceCache::Filled ReferenceCache::fill(const std::vector<Problem>& problems, const std::function<void(std::int64_t, std::int64_t)>& progress) {
  struct Job {
    Problem problem;
    std::int64_t b, d;
  };
  std::map<std::string, Job> longest;  // of every key, the longest sequence asked for
  for (const Problem& problem : problems) {
    for (const auto& [b, d] : sampled_channels(problem)) {
      const auto [at, is_new] = longest.try_emplace(key_of(problem, b, d), Job{problem, b, d});
      if (!is_new && at->second.problem.seq_len < problem.seq_len) at->second = {problem, b, d};
    }
  }
  std::vector<const Job*> missing;
  for (const auto& [key, job] : longest) {
    if (!serves(load(file_of(job.problem, job.b, job.d), key), job.problem.seq_len)) missing.push_back(&job);
  }
  // Short ones first: if time runs out, it is the longest that are judged on a prefix.
  std::stable_sort(missing.begin(), missing.end(), [](const Job* x, const Job* y) { return x->problem.seq_len < y->problem.seq_len; });

  Filled filled;
  filled.channels = std::int64_t(longest.size());
  std::mutex mutex;
  spent_s_ += share_time(missing.size(), std::max<std::size_t>(missing.size(), 1), limit_s_ - spent_s_, [&](std::size_t i, Deadline deadline) {
    const Job& job = *missing[i];
    const std::string key = key_of(job.problem, job.b, job.d);
    const std::filesystem::path file = file_of(job.problem, job.b, job.d);
    const Truth truth = true_states(draw_channel(job.problem, job.b, job.d), deadline, job.problem.storage);
    const std::optional<Truth> stored = load(file, key);
    if (!stored || stored->steps < truth.steps) save(file, key, truth);
    const std::lock_guard lock(mutex);
    ++filled.computed;
    filled.cut_short += !truth.ends && truth.steps < job.problem.seq_len;
    if (progress) progress(filled.channels - std::int64_t(missing.size()) + filled.computed, filled.channels);
  });
  return filled;
}

Dynamics ReferenceCache::dynamics(const Problem& p) {
  Dynamics most;
  for (const auto& [b, d] : sampled_channels(p)) {
    const std::string key = key_of(p, b, d) + " steps=" + std::to_string(p.seq_len);
    auto known = dynamics_.find(key);
    if (known == dynamics_.end()) known = dynamics_.emplace(key, prnn::dynamics(draw_channel(p, b, d), truth(p, b, d))).first;
    most.lyapunov = max_or_nan(most.lyapunov, known->second.lyapunov);
    most.jacobian_max = max_or_nan(most.jacobian_max, known->second.jacobian_max);
  }
  return most;
}

const std::vector<DoubleDouble>& ReferenceCache::last_iterate(const Problem& p, std::int64_t b, std::int64_t d, int count, std::int64_t steps_a_tile, std::int64_t steps) {
  const std::string key = key_of(p, b, d) + " solves=" + std::to_string(count) + " tile=" + std::to_string(std::min(steps_a_tile, p.seq_len)) + " steps=" + std::to_string(steps);
  const auto [known, is_new] = iterates_.try_emplace(key);
  if (is_new) {
    const auto start = Clock::now();
    known->second = prnn::last_iterate(draw_channel(p, b, d), count, steps_a_tile, steps, after(std::min(kEndToEndShare * limit_s_ - iterates_s_, limit_s_ - spent_s_)));
    iterates_s_ += seconds_since(start);
    spent_s_ += seconds_since(start);
  }
  return known->second;
}

Truth ReferenceCache::truth(const Problem& p, std::int64_t b, std::int64_t d) {
  const std::string key = key_of(p, b, d);
  const std::filesystem::path file = file_of(p, b, d);
  std::optional<Truth> stored = load(file, key);
  if (!serves(stored, p.seq_len)) {
    const auto start = Clock::now();
    Truth computed = true_states(draw_channel(p, b, d), after(limit_s_ - spent_s_), p.storage);
    spent_s_ += seconds_since(start);
    if (!stored || stored->steps < computed.steps) {
      save(file, key, computed);
      stored = std::move(computed);
    }
  }
  return shortened(*std::move(stored), p.seq_len);
}

}  // namespace prnn
