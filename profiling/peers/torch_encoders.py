"""Encoders of timm and torchvision with the weights sent; as in `torch_losses`."""

import torch


def vision_transformer(image, direction, *tensors, names, model, arguments):
    import timm

    made = timm.create_model(model, num_classes=0, **arguments)
    return (direction * _represented(made, image, names, tensors)).mean()


def resnet(image, *tensors, names, model, arguments):
    import torchvision

    made = torchvision.models.get_model(model, **arguments)
    made.fc = torch.nn.Identity()
    return _represented(made, image, names, tensors)


def _represented(made, image, names, tensors):
    """h, all of the network's weights set to those of these names and no others."""
    made.load_state_dict(dict(zip(names, tensors, strict=True)), strict=True)
    return made.double().eval()(image.permute(0, 3, 1, 2))


def resized(table, *, grid):
    from timm.layers import resample_abs_pos_embed

    rows, columns, width = table.shape
    given = table.reshape(1, rows * columns, width)
    found = resample_abs_pos_embed(
        given, grid, old_size=[rows, columns], num_prefix_tokens=0
    )
    return found.reshape(*grid, width).double()


FUNCTIONS = {
    "VisionTransformer.forward": vision_transformer,
    "ResNet.forward": resnet,
    "resample_abs_pos_embed": resized,
}
"""By the names that the cases have for them."""
