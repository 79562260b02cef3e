// A device of PyTorch, "mock", of which there are three. Its memory is the
// host's, and what it computes the processor does.
//
// It refuses what a GPU refuses: to compute with tensors of two devices, or with
// tensors of the host other than numbers. So a program that runs on it has all
// its tensors where they must be.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <vector>

namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;
constexpr auto kKey = c10::DispatchKey::PrivateUse1;
constexpr int kNumber = 3;

thread_local c10::DeviceIndex current = 0;
// How many operations each device has done.
std::vector<int64_t> operations(kNumber, 0);

// Memory, devices and streams.

struct Allocator final : c10::Allocator {
  static void release(void* data) {
    if (data) c10::free_cpu(data);
  }
  c10::DataPtr allocate(size_t size) override {
    void* data = size ? c10::alloc_cpu(size) : nullptr;
    return {data, data, &release, c10::Device(kType, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(to, from, size);
  }
};

Allocator allocator;
REGISTER_ALLOCATOR(kType, &allocator);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device getDevice() const override { return {kType, current}; }
  void setDevice(c10::Device device) const override {
    current = device.index();
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    current = device.index();
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return kNumber; }
  // All is done when the call returns, so one stream is enough.
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    return getStream(stream.device());
  }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Generator final : c10::GeneratorImpl {
  at::Generator host;

  Generator(c10::DeviceIndex index, at::Generator host)
      : c10::GeneratorImpl({kType, index}, c10::DispatchKeySet(kKey)),
        host(std::move(host)) {}
  void set_current_seed(uint64_t seed) override { host.set_current_seed(seed); }
  uint64_t current_seed() const override { return host.current_seed(); }
  uint64_t seed() override { return host.seed(); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  void set_state(const c10::TensorImpl& state) override {
    host.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return host.unsafeGetGeneratorImpl()->get_state();
  }
  Generator* clone_impl() const override {
    return new Generator(device().index(), host.clone());
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kNumber; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex index) const override {
    current = index;
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    return std::exchange(current, index);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return std::exchange(current, index < 0 ? current : index);
  }
  // Numbers are drawn by the host's generator, which is seeded with all others.
  const at::Generator& getDefaultGenerator(
      c10::DeviceIndex index) const override {
    static const std::vector<at::Generator> generators = [] {
      std::vector<at::Generator> made;
      for (int each = 0; each < kNumber; each++)
        made.push_back(at::make_generator<Generator>(
            each, at::detail::getDefaultCPUGenerator()));
      return made;
    }();
    return generators[index < 0 ? current : index];
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return at::make_generator<Generator>(
        index < 0 ? current : index, at::detail::createCPUGenerator());
  }
  void resizePrivateUse1Bytes(
      const c10::Storage& storage, size_t size) const override {
    auto data = allocator.allocate(size);
    if (storage.data())
      std::memcpy(data.get(), storage.data(), std::min(size, storage.nbytes()));
    const_cast<c10::Storage&>(storage).set_data_ptr(
        {data.get(), data.release_context(), &Allocator::release,
         storage.device()});
  }
};

// What a device must do itself.

// A tensor of the host in the memory of another.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.device().type() != kType) return tensor;
  const auto& storage = tensor.storage();
  c10::Storage same(
      c10::Storage::use_byte_size_t(), storage.nbytes(),
      {const_cast<void*>(storage.data()), c10::Device(c10::kCPU)}, nullptr,
      false);
  auto host = at::empty({0}, tensor.options().device(c10::kCPU));
  return host.set_(
      same, tensor.storage_offset(), tensor.sizes(), tensor.strides());
}

c10::DeviceIndex index_of(std::optional<at::Device> device) {
  return device && device->has_index() ? device->index() : current;
}

at::ScalarType type_or_default(std::optional<at::ScalarType> type) {
  return type.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
}

at::Tensor empty(
    c10::IntArrayRef sizes, std::optional<at::ScalarType> type,
    std::optional<at::Layout>, std::optional<at::Device> device,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  auto before = std::exchange(current, index_of(device));
  auto made = at::detail::empty_generic(
      sizes, &allocator, c10::DispatchKeySet(kKey), type_or_default(type),
      format);
  current = before;
  return made;
}

at::Tensor empty_strided(
    c10::IntArrayRef sizes, c10::IntArrayRef strides,
    std::optional<at::ScalarType> type, std::optional<at::Layout>,
    std::optional<at::Device> device, std::optional<bool>) {
  auto before = std::exchange(current, index_of(device));
  auto made = at::detail::empty_strided_generic(
      sizes, strides, &allocator, c10::DispatchKeySet(kKey),
      type_or_default(type));
  current = before;
  return made;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  on_host(to).copy_(on_host(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  at::native::resize_(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

const at::Tensor& resize(
    const at::Tensor& tensor, c10::IntArrayRef sizes,
    std::optional<at::MemoryFormat> format) {
  return at::native::resize_(tensor, sizes, format);
}

at::Tensor& set_storage(at::Tensor& tensor, at::Storage storage) {
  return at::native::set_(tensor, storage);
}

at::Tensor& set_storage_at(
    at::Tensor& tensor, at::Storage storage, int64_t offset,
    c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  return at::native::set_storage_cpu_(tensor, storage, offset, sizes, strides);
}

at::Scalar number_in(const at::Tensor& tensor) {
  return on_host(tensor).item();
}

at::Tensor convolution(
    const at::Tensor& inputs, const at::Tensor& weights,
    const std::optional<at::Tensor>& bias, c10::IntArrayRef stride,
    c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
    c10::IntArrayRef output_padding, int64_t groups) {
  std::optional<at::Tensor> host_bias;
  if (bias && bias->defined()) host_bias = on_host(*bias);
  return at::convolution(
             on_host(inputs), on_host(weights), host_bias, stride, padding,
             dilation, transposed, output_padding, groups)
      .to(inputs.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& inputs,
    const at::Tensor& weights, c10::IntArrayRef stride,
    c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
    c10::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> wanted) {
  auto [first, second, third] = at::convolution_backward(
      on_host(gradient), on_host(inputs), on_host(weights),
      std::vector<int64_t>{gradient.size(1)}, stride, padding, dilation,
      transposed, output_padding, groups, wanted);
  auto back = [&](const at::Tensor& each) {
    return each.defined() ? each.to(inputs.device()) : each;
  };
  return {back(first), back(second), back(third)};
}

// All else.

void check_is_here(
    const c10::OperatorHandle& operation, const at::Tensor& tensor,
    std::optional<c10::DeviceIndex>& here) {
  if (!tensor.defined()) return;
  const auto& name = operation.schema().name();
  if (tensor.device().type() != kType) {
    // As a GPU does, they take numbers of the host, and indices.
    TORCH_CHECK(
        tensor.dim() == 0 || name.find("index") != std::string::npos ||
            name.find("copy") != std::string::npos,
        name, " on a mock device was given a tensor of the host of shape ",
        tensor.sizes());
    return;
  }
  auto index = tensor.device().index();
  TORCH_CHECK(
      here.value_or(index) == index, name, " was given tensors of two devices");
  here = index;
}

void compute_on_host(
    const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  std::optional<c10::DeviceIndex> here;
  auto number = operation.schema().arguments().size();
  for (auto& each : torch::jit::last(*stack, number)) {
    if (each.isTensor()) {
      check_is_here(operation, each.toTensor(), here);
    } else if (each.isTensorList()) {
      for (const at::Tensor& tensor : each.toTensorVector())
        check_is_here(operation, tensor, here);
    } else if (each.isOptionalTensorList()) {
      for (std::optional<at::Tensor> tensor : each.toOptionalTensorVector())
        if (tensor) check_is_here(operation, *tensor, here);
    }
  }
  for (auto& each : torch::jit::last(*stack, number)) {
    if (!each.isGenerator()) continue;
    auto generator = each.toGenerator();
    if (generator.device().type() == kType)
      const_cast<c10::IValue&>(each) =
          static_cast<Generator*>(generator.unsafeGetGeneratorImpl())->host;
  }
  if (here) operations[*here]++;
  at::native::cpu_fallback(operation, stack);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&compute_on_host>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("unfold", &at::native::unfold);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("resize_", &resize);
  library.impl("set_.source_Tensor", &at::native::set_tensor_);
  library.impl("set_.source_Storage", &set_storage);
  library.impl("set_.source_Storage_storage_offset", &set_storage_at);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &number_in);
  library.impl("convolution_overrideable", &convolution);
  library.impl("convolution_backward_overrideable", &convolution_backward);
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  module.def("device_count", [] { return kNumber; });
  module.def("current_device", [] { return int(current); });
  module.def("set_device", [](int index) { current = index; });
  module.def("operations", [] { return operations; });
}
