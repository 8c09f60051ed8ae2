// machine_emulated.cpp: the device "emulated": its own memory on the host, under the emulated GPU. Its times are those of the emulation, never a speed.
#include "kernels/primitives/device_emulated.hpp"
#include "kernels/primitives/machine_host.hpp"
#include "kernels/primitives/memory_emulated.hpp"

namespace prnn::emulated {
namespace {

using detail::Content;

PRNN_KERNEL empty_kernel() {}

class EmulatedMachine : public HostMachine {
 public:
  std::string_view device() const override { return kDevice; }
  std::int64_t free_bytes() const override { return HostMachine::free_bytes() / detail::kBytesAByte; }

  void* allocate(std::int64_t bytes) override {
    refuse_more_than_free(bytes);
    return detail::allocate_region(std::size_t(bytes), false).data;
  }
  void release(void* data) noexcept override { detail::release_region(data); }
  void upload(void* to, const void* from_host, std::int64_t bytes) override {
    HostMachine::upload(to, from_host, bytes);
    detail::set_contents(to, std::size_t(bytes), Content::written);
  }
  void copy(void* to, const void* from, std::int64_t bytes) override {
    HostMachine::copy(to, from, bytes);
    detail::copy_contents(to, from, std::size_t(bytes));
  }
  /// 0xff poisons: what is there then counts as nothing that has been written.
  void fill(void* to, unsigned char byte, std::int64_t bytes) override {
    HostMachine::fill(to, byte, bytes);
    detail::set_contents(to, std::size_t(bytes), byte == 0xff ? Content::none : Content::written);
  }

 protected:
  void empty_launch() override { launch(&empty_kernel, 1, kWarp, 0, nullptr); }
};

[[maybe_unused]] const bool registered = [] {
  machines().push_back({kDevice, []() -> std::unique_ptr<Machine> { return std::make_unique<EmulatedMachine>(); }, [] { return std::string(); },
                        "memory order weaker than sequential between two waits; the bits of special-function units, and CUB's order of operations (newton_unfused); timing and "
                        "occupancy; races in memory that no Machine has allocated, and, among more than two readers, those a phase orders with some only"});
  return true;
}();

}  // namespace
}  // namespace prnn::emulated
